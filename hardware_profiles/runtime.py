"""Runs a model in ONNX Runtime, in this process: for scoring and checking outputs, never for timing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware_profiles.errors import ModelError


def runtime_version() -> str:
    """The version of ONNX Runtime in this process."""
    return str(onnxruntime.__version__)


def run_calls(model: bytes, calls: Iterable[Mapping[str, NDArray[Any]]]) -> list[list[NDArray[Any]]]:
    """The model's outputs of each call, in order, on the CPU with one thread, from one session.

    Args:
        calls: the inputs of each call by name; their shapes may differ between calls.

    Raises:
        ModelError: the runtime rejects the model or the inputs of a call.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise _rejected(error) from error
    return [_run(session, inputs) for inputs in calls]


def run_model(model: bytes, inputs: Mapping[str, NDArray[Any]], *, batch_size: int | None = None) -> list[NDArray[Any]]:
    """The model's outputs, on the CPU with one thread.

    Args:
        batch_size: examples per call, where the first dimension of all inputs and outputs is the batch; None makes one call.

    Raises:
        ModelError: the runtime rejects the model or the inputs.
    """
    if batch_size is None:
        return run_calls(model, [inputs])[0]
    n = len(next(iter(inputs.values())))
    calls = (
        {name: array[start : start + batch_size] for name, array in inputs.items()} for start in range(0, n, batch_size)
    )
    return [
        np.concatenate(outputs) if len(outputs) > 1 else outputs[0]  # one call's are not copied
        for outputs in zip(*run_calls(model, calls), strict=True)
    ]


def _run(session: onnxruntime.InferenceSession, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    try:
        return [np.asarray(output) for output in session.run(None, dict(inputs))]
    except Exception as error:  # as above
        raise _rejected(error) from error


def _rejected(error: Exception) -> ModelError:
    return ModelError(f"ONNX Runtime {runtime_version()} rejects the model: {error}", code="model.rejected")
