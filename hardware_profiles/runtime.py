"""Runs a model in ONNX Runtime, in this process: for scoring and checking outputs, never for timing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware_profiles.errors import ModelError


def runtime_version() -> str:
    """Of the ONNX Runtime in this process."""
    return str(onnxruntime.__version__)


def run_model(model: bytes, inputs: Mapping[str, NDArray[Any]], *, batch_size: int | None = None) -> list[NDArray[Any]]:
    """The model's outputs, on the CPU with one thread.

    Args:
        batch_size: examples a call, where the first dimension of all inputs and outputs is the batch; None is one call.

    Raises:
        ModelError: the runtime refuses the model or the inputs.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        n = len(next(iter(inputs.values())))
        step = n if batch_size is None else batch_size
        calls = [
            session.run(None, {name: array[start : start + step] for name, array in inputs.items()})
            for start in range(0, n, step)
        ]
        return [
            np.concatenate(outputs) if len(calls) > 1 else np.asarray(outputs[0])
            for outputs in zip(*calls, strict=True)
        ]
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ModelError(f"ONNX Runtime {onnxruntime.__version__} refuses the model: {error}") from error
