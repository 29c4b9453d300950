"""Runs a model in ONNX Runtime or OpenVINO, in this process: for scoring and checking outputs, never for timing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware_profiles.errors import ModelError


def runtime_version() -> str:
    """The version of ONNX Runtime in this process."""
    return str(onnxruntime.__version__)


def run_calls(model: bytes, calls: Iterable[Mapping[str, NDArray[Any]]]) -> list[list[NDArray[Any]]]:
    """The model's outputs of each call, in order, on the CPU with one thread, from one session; shapes may differ.

    Raises:
        ModelError: the runtime rejects the model or the inputs of a call.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = _checked(onnxruntime.InferenceSession, model, options, providers=["CPUExecutionProvider"])
    return [[np.asarray(output) for output in _checked(session.run, None, dict(inputs))] for inputs in calls]


def run_in_openvino(model: bytes, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The model's outputs in OpenVINO, on the CPU with one thread, in float32.

    Raises:
        ModelError: OpenVINO is not installed, or rejects the model.
    """
    try:
        import openvino  # late: an optional part
    except ImportError as error:
        message = f"`import openvino` fails ({error}); install it: pip install openvino"
        raise ModelError(message, code="model.runtime-missing") from None
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
        return [np.array(output) for output in compiled(dict(inputs)).values()]
    except Exception as error:  # openvino raises a bare RuntimeError for a model that it cannot read
        message = f"OpenVINO {openvino.__version__} rejects the model: {' '.join(str(error).split())[:400]}"
        raise ModelError(message, code="model.rejected") from error


def run_model(model: bytes, inputs: Mapping[str, NDArray[Any]], *, batch_size: int | None = None) -> list[NDArray[Any]]:
    """As `run_calls`, the outputs of one call, or of calls of `batch_size` examples (the first dimension), concatenated."""
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


def _checked(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return call(*arguments, **options)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        message = f"ONNX Runtime {runtime_version()} rejects the model: {error}"
        raise ModelError(message, code="model.rejected") from error
