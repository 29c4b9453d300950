"""Runs a model in ONNX Runtime, in this process: for checking outputs, never for timing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware_profiles.errors import ModelError


def run_model(model: bytes, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The model's outputs, on the CPU with one thread.

    Raises:
        ModelError: the runtime refuses the model or the inputs.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return [np.asarray(output) for output in session.run(None, dict(inputs))]
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ModelError(f"ONNX Runtime {onnxruntime.__version__} refuses the model: {error}") from error
