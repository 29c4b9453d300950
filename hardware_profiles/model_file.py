"""Measures any ONNX file, with inputs made up for what it declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.errors import ModelError
from hardware_profiles.transport import LocalProfiler

SEED = 0
_MAX_BYTES = 2**31 - 1
"""What one protobuf message can hold."""


def profile_model(
    path: Path,
    profile: HardwareProfile,
    *,
    longer: bool = True,
    on_wait: Callable[[str], None] | None = None,
) -> LatencyMeasurement:
    """The latency of an ONNX file on a profile, per batch.

    Args:
        longer: more rounds, as for final figures.
        on_wait: told in a sentence when another measurement must be waited for.

    Raises:
        ModelError: the file is missing, is no ONNX model, does not take the profile's batch, or does not run.
        ProfileError: this machine does not have what the profile asks for.
        WorkerError: the measuring process cannot be kept alive.
    """
    model = _read(path)
    inputs = make_inputs(model, profile, np.random.default_rng(SEED), source=str(path))
    try:
        serialised = model.SerializeToString()
    except ValueError as error:  # protobuf's word for more than 2 GB
        raise ModelError(f"{path}: the model with its weights is larger than {_MAX_BYTES} bytes: {error}") from None
    with LocalProfiler(profile, seed=SEED, on_wait=on_wait) as profiler:
        (result,) = profiler.measure([Deployment.single(serialised, inputs)], longer=longer)
    if isinstance(result, LatencyFailure):
        raise ModelError(f"{path}: {result.message}")
    return result


def summary(profile: HardwareProfile, measurement: LatencyMeasurement) -> dict[str, Any]:
    """What ``nas profile --json`` prints; JSON-able."""
    return {
        "profile": profile.name,
        "latency_ms": measurement.latency_ms,
        "p50_ms": measurement.p50_ms,
        "samples": measurement.samples,
        "resolution": measurement.resolution,
        "preempted_share": measurement.preempted_share,
        "protocol": measurement.protocol,
        "environment": dict(measurement.environment),
    }


def make_inputs(
    model: onnx.ModelProto, profile: HardwareProfile, rng: np.random.Generator, *, source: str
) -> dict[str, NDArray[Any]]:
    """Random arrays for every input that has no initializer, their dynamic first dimension at the profile's batch size.

    Floats are standard normal; int32 and int64, which may be indices, are 0 or 1; other integers fill their range. An
    input without dimensions is a scalar. A later dimension of the same name as the first is the batch too.

    Raises:
        ModelError: an input is no tensor of numbers, has a dynamic dimension besides the batch, or the batch is fixed at
            another size.
    """
    weights = {initializer.name for initializer in model.graph.initializer}
    declared = [value for value in model.graph.input if value.name not in weights]
    batches = {v.type.tensor_type.shape.dim[0].dim_param for v in declared if _starts_dynamic(v)} - {""}
    if declared and not any(_starts_dynamic(value) for value in declared):
        _check_fixed_batch(declared[0], profile, source)
    return {value.name: _array(value, profile, rng, batches, source) for value in declared}


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except DecodeError:
        raise ModelError(f"{path}: this is no ONNX model (it cannot be decoded)") from None
    except (OSError, onnx.checker.ValidationError) as error:  # the latter: a file of external weights
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise ModelError(f"{path}: the model cannot be read: {why}") from None
    # Protobuf decodes an empty file, and some that hold anything, to a message without content.
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"{path}: this is no ONNX model (it holds no graph)")
    return model


def _starts_dynamic(value: ValueInfoProto) -> bool:
    dims = value.type.tensor_type.shape.dim
    return len(dims) > 0 and not dims[0].HasField("dim_value")


def _check_fixed_batch(value: ValueInfoProto, profile: HardwareProfile, source: str) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) > 0 and dims[0].dim_value != profile.batch_size:
        raise ModelError(
            f"{source}: the first dimension of input {value.name!r} is fixed at {dims[0].dim_value}, and profile "
            f"{profile.name} runs batches of {profile.batch_size}; export the model with a dynamic batch, or take a "
            f"profile of batch size {dims[0].dim_value}"
        )


def _array(
    value: ValueInfoProto, profile: HardwareProfile, rng: np.random.Generator, batches: set[str], source: str
) -> NDArray[Any]:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise ModelError(
            f"{source}: input {value.name!r} is no tensor of declared shape; only such inputs can be made up"
        )
    shape = []
    for i, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(int(dim.dim_value))
        elif i == 0 or dim.dim_param in batches:
            shape.append(profile.batch_size)
        else:
            name = f" ({dim.dim_param!r})" if dim.dim_param else ""
            raise ModelError(
                f"{source}: dimension {i}{name} of input {value.name!r} is dynamic, and only the first, the batch, may be; "
                f"export the model with this dimension fixed"
            )
    return _draw(tensor.elem_type, tuple(shape), rng, f"{source}: input {value.name!r}")


def _draw(elem_type: int, shape: tuple[int, ...], rng: np.random.Generator, where: str) -> NDArray[Any]:
    name = TensorProto.DataType.Name(elem_type)
    if name in ("FLOAT", "DOUBLE", "FLOAT16"):
        return np.asarray(rng.standard_normal(shape), dtype=helper.tensor_dtype_to_np_dtype(elem_type))
    if name in ("INT32", "INT64", "BOOL"):  # the integers may be indices, and every table has two rows
        return np.asarray(rng.integers(0, 2, shape), dtype=helper.tensor_dtype_to_np_dtype(elem_type))
    if name in ("INT8", "UINT8", "INT16", "UINT16", "UINT32", "UINT64"):
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
        bounds = np.iinfo(dtype)
        return np.asarray(rng.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True), dtype=dtype)
    raise ModelError(f"{where} is of type {name}, and only numbers and booleans that numpy has can be made up")
