"""Random inputs for an ONNX model, from the types and shapes that it declares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ModelError

_MAX_NUMBERS = 2**29
"""Maximum size of an input: 2 GiB of float32, the largest payload of a command to a worker."""


def make_inputs(
    model: onnx.ModelProto,
    profile: HardwareProfile,
    rng: np.random.Generator,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    source: str,
) -> dict[str, NDArray[Any]]:
    """Random arrays for every input without an initializer, with the profile's batch size as dynamic first dimension.

    Floats are standard normal; int32 and int64, which may be indices, are 0 or 1; other integers fill their range. An
    input without dimensions is a scalar. A later dimension with the same name as the first is the batch, too.

    Args:
        shapes: complete shapes by input name, batch included; required for inputs with other dynamic dimensions.
        source: the model's file, for messages.

    Raises:
        ModelError: an input is not a tensor of numbers, has a dynamic dimension besides the batch that `shapes` does not
            give, or has a fixed batch of another size; or `shapes` contradicts the model or the profile's batch.
    """
    shape_by_name = shapes or {}
    weights = {initializer.name for initializer in model.graph.initializer}
    declared = [value for value in model.graph.input if value.name not in weights]
    for name in shape_by_name.keys() - {value.name for value in declared}:
        names = ", ".join(repr(value.name) for value in declared) or "none"
        message = f"{source}: unknown input {name!r} in the given shapes; the model's inputs are {names}"
        raise ModelError(message, code="model.shape-mismatch")
    dynamic = [value for value in declared if (dims := value.type.tensor_type.shape.dim) and _is_dynamic(dims[0])]
    fixed = None if dynamic or not declared else [dim.dim_value for dim in declared[0].type.tensor_type.shape.dim]
    if fixed and fixed[0] != profile.batch_size:
        message = f"{source}: the first dimension of input {declared[0].name!r} is fixed at {fixed[0]}"
        advice = f"export the model with a dynamic batch, or choose a profile with batch size {fixed[0]}"
        batch = f"profile {profile.name} has batch size {profile.batch_size}"
        raise ModelError(f"{message}, and {batch}; {advice}", code="model.batch-mismatch")
    batch_names = {value.type.tensor_type.shape.dim[0].dim_param for value in dynamic} - {""}
    return {
        value.name: _array(value, profile, rng, batch_names, shape_by_name.get(value.name), source)
        for value in declared
    }


def _is_dynamic(dim: Any) -> bool:
    """Returns True if only the run knows the size; old exporters write -1."""
    return not dim.HasField("dim_value") or dim.dim_value < 0


def _array(
    value: ValueInfoProto,
    profile: HardwareProfile,
    rng: np.random.Generator,
    batch_names: set[str],
    requested_shape: Sequence[int] | None,
    source: str,
) -> NDArray[Any]:
    tensor = value.type.tensor_type
    where = f"{source}: input {value.name!r}"
    if not value.type.HasField("tensor_type") or (requested_shape is None and not tensor.HasField("shape")):
        message = f"{where} is not a tensor with a declared shape; export it with one{_advice(value)}"
        raise ModelError(message, code="model.shape-required")
    if any(not _is_dynamic(dim) and dim.dim_value == 0 for dim in tensor.shape.dim):
        message = f"{where} has a dimension of size 0; export it with sizes from 1"
        raise ModelError(message, code="model.input-unsupported")
    declared_sizes = [_size(dim, i, profile, batch_names) for i, dim in enumerate(tensor.shape.dim)]
    if requested_shape is None:
        if 0 in declared_sizes:
            i = declared_sizes.index(0)
            name = f" ({tensor.shape.dim[i].dim_param!r})" if tensor.shape.dim[i].dim_param else ""
            message = f"{where}: dimension {i}{name} is dynamic, and only the first, the batch, may be"
            advice = f"export the model with a fixed size{_advice(value)}"
            raise ModelError(f"{message}; {advice}", code="model.shape-required")
        return _draw(tensor.elem_type, tuple(declared_sizes), rng, where)
    expected = "x".join(str(size or "?") for size in declared_sizes)
    fits = len(requested_shape) == len(declared_sizes) and all(
        b in (0, a) for a, b in zip(requested_shape, declared_sizes, strict=True)
    )
    if min(requested_shape, default=1) < 1 or (tensor.HasField("shape") and not fits):
        sizes = "x".join(map(str, requested_shape))
        message = f"{where}: the given shape {sizes} does not fit the profile's batch size {profile.batch_size}"
        advice = f"expected {expected or 'a scalar'}, with sizes from 1"
        raise ModelError(f"{message}; {advice}", code="model.shape-mismatch")
    return _draw(tensor.elem_type, tuple(requested_shape), rng, where)


def _size(dim: Any, i: int, profile: HardwareProfile, batch_names: set[str]) -> int:
    """The size of a declared dimension; 0 if it is dynamic and not the batch."""
    if not _is_dynamic(dim):
        return int(dim.dim_value)
    return profile.batch_size if i == 0 or dim.dim_param in batch_names else 0


def _advice(value: ValueInfoProto) -> str:
    """The advice to give a shape; empty for an input that is not a tensor."""
    return f", or give its complete shape (shape {value.name}=1x...)" if value.type.HasField("tensor_type") else ""


def _draw(elem_type: int, shape: tuple[int, ...], rng: np.random.Generator, where: str) -> NDArray[Any]:
    if math.prod(shape) > _MAX_NUMBERS:
        sizes = "x".join(map(str, shape))
        message = f"{where} has the shape {sizes}, more than {_MAX_NUMBERS:,} numbers; choose a smaller shape or batch"
        raise ModelError(message, code="model.input-unsupported")
    name, dtype = TensorProto.DataType.Name(elem_type), np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    if name in ("FLOAT", "DOUBLE", "FLOAT16"):
        return np.asarray(rng.standard_normal(shape), dtype)
    if name in ("INT32", "INT64", "BOOL"):  # they may be indices, and every table has two rows
        return np.asarray(rng.integers(0, 2, shape), dtype)
    if name in ("INT8", "UINT8", "INT16", "UINT16", "UINT32", "UINT64"):
        bounds = np.iinfo(dtype)
        return np.asarray(rng.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True), dtype)
    message = f"{where} has type {name}, expected a number or boolean type of numpy; remove the nodes that convert it"
    raise ModelError(message, code="model.input-unsupported")
