"""ONNX operators on shapes and positions: sizes are known values, from which shapes follow."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.networks.onnx_models.registry import OperatorCall, Value, operator

_PADDINGS = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Shape")
def _shape(call: OperatorCall) -> Any:
    sizes = list(call.value(0).shape)
    return np.array(sizes[call.attribute("start", 0) : call.attribute("end")], np.int64)


@operator("Size")
def _size(call: OperatorCall) -> Any:
    return np.array(prod(call.value(0).shape), np.int64)


@operator("Constant")
def _constant(call: OperatorCall) -> Any:
    for key in ("value_float", "value_floats", "value_int", "value_ints"):
        dtype = np.float32 if "float" in key else np.int64
        if (numbers := call.attribute(key)) is not None:
            return np.array(numbers, dtype)
    array = call.attribute("value")
    return array if isinstance(array, np.ndarray) else call.reject("a constant of sparse values or texts")


@operator("ConstantOfShape")
def _constant_of_shape(call: OperatorCall) -> Any:
    fill = call.attribute("value")
    number = fill.reshape(-1)[0].item() if fill is not None and fill.size else 0.0
    dtype = torch.float32 if fill is None else torch.from_numpy(fill.reshape(-1)[:1].copy()).dtype
    return torch.full(call.ints(0) or (), number, dtype=dtype)


@operator("Range")
def _range(call: OperatorCall) -> Any:
    start, limit, step = (call.known(i).reshape(()).item() for i in range(3))
    return torch.arange(start, limit, step, dtype=torch.from_numpy(call.known(0).reshape(-1).copy()).dtype)


@operator("EyeLike")
def _eye(call: OperatorCall) -> Tensor:
    x = call.tensor(0)
    if call.attribute("k"):
        call.reject("a diagonal beside the main one")
    return torch.eye(*x.shape)


@operator("Reshape")
def _reshape(call: OperatorCall) -> Tensor:
    x, shape = call.tensor(0), list(call.ints(1, "shape") or ())
    if not call.attribute("allowzero"):
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return x.reshape(_for_batch(call, x, shape))


def _for_batch(call: OperatorCall, x: Tensor, shape: list[int]) -> list[int]:
    """The shape for this number of examples, in a file that has another one written into its shapes."""
    fixed, batch = call.fixed_batch, call.batch
    if fixed is None or batch is None or fixed == batch or not shape:
        return shape
    is_full = -1 not in shape
    if is_full and prod(shape) * batch != x.numel() * fixed:
        return shape
    if is_full and shape[0] % fixed == 0:
        return [shape[0] // fixed * batch, *shape[1:]]
    if not is_full and shape[0] == fixed and x.shape[0] == batch and -1 in shape[1:]:
        return [batch, *shape[1:]]
    return shape


@operator("Flatten")
def _flatten(call: OperatorCall) -> Tensor:
    x, axis = call.tensor(0), call.attribute("axis", 1)
    axis = axis % x.ndim if axis < 0 else axis
    if axis == 1 and x.ndim > 1:
        return x.flatten(1)
    return x.reshape(prod(x.shape[:axis]), -1)


@operator("Transpose")
def _transpose(call: OperatorCall) -> Tensor:
    x = call.tensor(0)
    return x.permute(call.attribute("perm") or tuple(range(x.ndim))[::-1])


@operator("Squeeze")
def _squeeze(call: OperatorCall) -> Tensor:
    x, axes = call.tensor(0), call.ints(1, "axes")
    return x.squeeze(tuple(i for i, n in enumerate(x.shape) if n == 1) if axes is None else axes)


@operator("Unsqueeze")
def _unsqueeze(call: OperatorCall) -> Tensor:
    x, axes = call.tensor(0), call.ints(1, "axes") or ()
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def _concat(call: OperatorCall) -> Tensor:
    tensors, axis = [call.tensor(i) for i in range(len(call.values))], call.attribute("axis", 0)
    if call.batch is not None and call.fixed_batch is not None and axis % tensors[0].ndim:
        # What the file repeats for its number of examples is repeated for this one.
        n = max(tensor.shape[0] for tensor in tensors)
        tensors = [t.expand(n, *t.shape[1:]) if t.shape[0] == 1 else t for t in tensors]
    return torch.cat(tensors, axis) if len(tensors) > 1 else tensors[0]


@operator("Split")
def _split(call: OperatorCall) -> Any:
    x, axis, sizes = call.tensor(0), call.attribute("axis", 0), call.ints(1, "split")
    if sizes:
        return x.split(list(sizes), axis)
    n = call.attribute("num_outputs") or len(call.node.outputs)
    return x.split(-(-x.shape[axis] // n), axis)


@operator("Slice")
def _slice(call: OperatorCall) -> Tensor:
    x = call.tensor(0)
    starts, ends = call.ints(1, "starts") or (), call.ints(2, "ends") or ()
    axes = call.ints(3, "axes") or tuple(range(len(starts)))
    steps = call.ints(4) or (1,) * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        start = max(start, -size) if step < 0 else start  # numpy's begins before the first element
        bounds = slice(start, end if step > 0 or end >= -size else None, step).indices(size)
        if step > 0:
            x = x if bounds == (0, size, 1) else _narrowed(x, axis, *bounds)
        elif bounds == (size - 1, -1, -1):
            x = x.flip(axis)
        else:
            x = x.index_select(axis, torch.tensor(list(range(*bounds)), dtype=torch.int64))
    return x


def _narrowed(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, max(start, end), step)
    return x[tuple(index)]


@operator("Gather")
def _gather(call: OperatorCall) -> Tensor:
    x, axis = call.tensor(0), call.attribute("axis", 0)
    indices: Value = call.value(1)
    axis = axis % x.ndim
    if isinstance(indices, np.ndarray):
        if indices.size and not -x.shape[axis] <= indices.min() <= indices.max() < x.shape[axis]:
            call.reject(f"an index beyond {x.shape[axis]} units")
        if indices.ndim == 0:
            return x.select(axis, int(indices) % x.shape[axis])
        flat = (indices % x.shape[axis]).reshape(-1).astype(np.int64)
        is_view = np.array_equal(flat, np.arange(x.shape[axis]))  # as torch's exporter writes some
        picked = x if is_view else x.index_select(axis, torch.from_numpy(flat))
        return picked if indices.ndim == 1 else picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    if axis == 0 and x.ndim == 2:
        return F.embedding(indices.long(), x)
    picked = x.index_select(axis, indices.reshape(-1).long())
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("GatherElements")
def _gather_elements(call: OperatorCall) -> Tensor:
    x, axis, indices = call.tensor(0), call.attribute("axis", 0), call.tensor(1).long()
    return x.gather(axis, torch.where(indices < 0, indices + x.shape[axis], indices))


@operator("GatherND")
def _gather_nd(call: OperatorCall) -> Tensor:
    x, indices = call.tensor(0), call.tensor(1).long()
    if call.attribute("batch_dims", 0):
        call.reject("batch_dims")
    return x[tuple(indices.unbind(-1))]


@operator("ScatterND")
def _scatter_nd(call: OperatorCall) -> Tensor:
    if call.attribute("reduction", "none") != "none":
        call.reject("a scattering that adds or multiplies")
    return call.tensor(0).index_put(call.tensor(1).long().unbind(-1), call.tensor(2))


@operator("Expand")
def _expand(call: OperatorCall) -> Tensor:
    x, shape = call.tensor(0), call.ints(1) or ()
    rank = max(x.ndim, len(shape))
    old, wanted = (1,) * (rank - x.ndim) + tuple(x.shape), (1,) * (rank - len(shape)) + tuple(shape)
    sizes = [a if b == 1 else b for a, b in zip(old, wanted, strict=True)]
    return x if sizes == list(x.shape) else x.expand(sizes)


@operator("Tile")
def _tile(call: OperatorCall) -> Tensor:
    return call.tensor(0).repeat(call.ints(1) or ())


@operator("Pad")
def _pad(call: OperatorCall) -> Tensor:
    x, pads = call.tensor(0), call.ints(1, "pads") or ()
    axes = call.ints(3) or tuple(range(x.ndim))
    mode, n = call.attribute("mode", "constant"), len(axes)
    before, after = [0] * x.ndim, [0] * x.ndim
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + n]
    first = next((i for i, pair in enumerate(zip(before, after, strict=True)) if any(pair)), None)
    if first is None:
        return x
    flat = [size for pair in reversed(list(zip(before, after, strict=True))[first:]) for size in pair]
    if mode == "constant":
        return F.pad(x, flat, value=call.number(2, "value", 0.0) or 0.0)
    if mode not in _PADDINGS:
        call.reject(f"padding of the mode {mode}")
    if min(flat) < 0:
        call.reject("negative padding of this mode")
    rank = x.ndim
    while x.ndim < 3 or x.ndim < len(flat) // 2 + 2:  # torch pads the dimensions after examples and channels
        x = x.unsqueeze(0)
    flat += [0] * (2 * (x.ndim - 2) - len(flat))
    x = F.pad(x, flat, mode=_PADDINGS[mode])
    return x.reshape(x.shape[x.ndim - rank :])


@operator("OneHot")
def _one_hot(call: OperatorCall) -> Tensor:
    indices, depth, axis = call.tensor(0).long(), int(call.known(1).reshape(-1)[0]), call.attribute("axis", -1)
    off, on = call.known(2).reshape(-1)[:2].tolist()
    positions = torch.arange(depth)
    hits = (torch.remainder(indices, depth).unsqueeze(-1) == positions).movedim(-1, axis)
    return torch.where(hits, torch.tensor(on), torch.tensor(off))


@operator("Trilu")
def _triangle(call: OperatorCall) -> Tensor:
    diagonal = int(call.known(1).reshape(())) if call.has(1) else 0
    return (torch.triu if call.attribute("upper", 1) else torch.tril)(call.tensor(0), diagonal)
