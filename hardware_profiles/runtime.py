"""Runs a model in a runtime, in this process: for scoring and checking outputs, never for timing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.errors import ModelError
from hardware_profiles.runtimes.base import LoadedModel, Runtime
from hardware_profiles.runtimes.lookup import find_runtime


def runtime_version(runtime: str = "onnxruntime") -> str:
    """The version of a runtime in this process.

    Raises:
        ProfileError: there is no such runtime.
        ModelError: it is not installed.
    """
    backend = find_runtime(runtime)
    try:
        return backend.version()
    except ImportError as error:
        message = f"`import {backend.package}` fails ({error}); install {backend.label}: pip install {backend.package}"
        raise ModelError(message, code="model.runtime-missing") from None


def run_calls(
    model: bytes | Path, calls: Iterable[Mapping[str, NDArray[Any]]], *, runtime: str = "onnxruntime"
) -> list[list[NDArray[Any]]]:
    """The model's outputs of each call, in order, on the runtime's own device with one thread; shapes may differ.

    Args:
        model: The serialised ONNX model, or the path of its file, which takes less memory.
        calls: Inputs by name, of each call.
        runtime: Name of the runtime.

    Raises:
        ProfileError: there is no such runtime.
        ModelError: it is not installed, or rejects the model or the inputs of a call.
    """
    version, backend, remaining_calls = runtime_version(runtime), find_runtime(runtime), iter(calls)
    if (first := next(remaining_calls, None)) is None:
        return []
    name = f"{backend.label} {version}"
    loaded = _checked(name, _load, backend, model, first)
    return [_checked(name, _outputs, loaded, inputs) for inputs in chain([first], remaining_calls)]


def run_model(
    model: bytes | Path,
    inputs: Mapping[str, NDArray[Any]],
    *,
    batch_size: int | None = None,
    runtime: str = "onnxruntime",
) -> list[NDArray[Any]]:
    """The outputs of one call, or of calls of `batch_size` examples (the first dimension), concatenated.

    Raises:
        ProfileError, ModelError: as `run_calls` does.
    """
    if batch_size is None:
        return run_calls(model, [inputs], runtime=runtime)[0]
    n = len(next(iter(inputs.values())))
    calls = (
        {name: array[start : start + batch_size] for name, array in inputs.items()} for start in range(0, n, batch_size)
    )
    return [
        np.concatenate(outputs) if len(outputs) > 1 else outputs[0]  # one call's are not copied
        for outputs in zip(*run_calls(model, calls, runtime=runtime), strict=True)
    ]


def _load(runtime: Runtime, model: bytes | Path, inputs: Mapping[str, NDArray[Any]]) -> LoadedModel:
    settings: Any = {"device": runtime.device, "cpus": [0], "inputs": (), "whole": False}
    if isinstance(model, Path) and getattr(runtime, "reads_files", False):
        path: Any = str(model)
        return runtime.load(path, **settings)
    content = model.read_bytes() if isinstance(model, Path) else model
    return runtime.load(runtime.convert(content, inputs), **settings)


def _outputs(loaded: LoadedModel, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Copies of a call's outputs, which the next call may overwrite."""
    written = set(getattr(loaded, "in_place", {}).values())  # the caller's arrays stay as they are
    raw_outputs = loaded.run({name: np.array(array) if name in written else array for name, array in inputs.items()})
    outputs = list(raw_outputs.values() if isinstance(raw_outputs, Mapping) else raw_outputs)
    del raw_outputs
    return [np.array(outputs.pop(0)) for _ in range(len(outputs))]  # at no time are all of them held twice


def _checked(name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call of a runtime, whose errors become errors with its name."""
    try:
        return call(*arguments)
    except Exception as error:  # the exceptions of runtimes share no base class
        raise ModelError(f"{name} rejects the model: {error}", code="model.rejected") from error
