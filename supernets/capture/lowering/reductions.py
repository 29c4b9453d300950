"""Lowering of reductions, pooling and resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from supernets.capture.lowering.state import TYPES, Lowering, ints, lowers
from supernets.capture.operations import operation
from supernets.capture.program import Call, Ref
from supernets.errors import LoweringError
from supernets.graph.ir import Attribute, Value

_REDUCTIONS = {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "logsumexp": "ReduceLogSumExp",
}


@lowers(*_REDUCTIONS, "linalg_vector_norm", "norm")
def _reduce(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("dim") is None:
        raise LoweringError(f"a {call.name} over all dimensions includes the batch")
    dims = sorted(d % low.rank(a["self"]) for d in ints(a["dim"], 1))
    if call.name == "mean" and low.rank(a["self"]) == 4 and dims == [2, 3]:
        # Runtimes compute this pooling in their own layout of channels.
        pooled = low.one("GlobalAveragePool", low.tensor(a["self"]))
        low.returns(call, pooled if a.get("keepdim") else low.one("Flatten", pooled, axis=1))
        return
    axes = low.numbers(dims)
    name = _REDUCTIONS.get(call.name, "ReduceL2")
    if call.name in ("linalg_vector_norm", "norm") and a.get("ord", a.get("p")) not in (2, None):
        raise LoweringError("there is no rule for a norm of another order than 2")
    low.returns(call, low.one(name, low.tensor(a["self"]), axes, keepdims=int(bool(a.get("keepdim")))))


@lowers("var", "std", "var_mean", "std_mean")
def _variance(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("dim") is None:
        raise LoweringError(f"a {call.name} over all dimensions includes the batch")
    x, shape = low.tensor(a["self"]), low.shape(cast(Ref, a["self"]).name)
    dims = [d % len(shape) for d in ints(a["dim"], 1)]
    n, axes, keep = math.prod(shape[d] for d in dims), low.numbers(dims), int(bool(a.get("keepdim")))
    correction = cast(float, a.get("correction", int(bool(a.get("unbiased", True)))))
    correction = 1.0 if correction is None else correction
    if any(d in low.program.dynamic.get(cast(Ref, a["self"]).name, ()) for d in dims) or n <= correction:
        raise LoweringError(f"there is no rule for a {call.name} over the batch or over one number")
    centred = low.one("Sub", x, low.one("ReduceMean", x, axes, keepdims=1))
    total = low.one("ReduceSumSquare", centred, axes, keepdims=keep)
    spread = low.one("Div", total, low.scalar(float(n - correction)))
    if call.name.startswith("std"):
        spread = low.one("Sqrt", spread)
    mean = [low.one("ReduceMean", x, axes, keepdims=keep)] if call.name.endswith("_mean") else []
    low.returns(call, spread, *mean)


@lowers("max", "min")
def _extreme(low: Lowering, call: Call) -> None:
    a = call.arguments
    if "other" in a:
        low.returns(
            call, low.one("Max" if call.name == "max" else "Min", low.tensor(a["self"]), low.tensor(a["other"]))
        )
        return
    if a.get("dim") is None or (len(call.outputs) > 1 and low.is_read(call.outputs[1])):
        raise LoweringError(f"there is no rule for a {call.name} over all dimensions, or for its positions")
    axes, keep = low.numbers([cast(int, a["dim"]) % low.rank(a["self"])]), int(bool(a.get("keepdim")))
    low.returns(call, low.one(f"Reduce{call.name.capitalize()}", low.tensor(a["self"]), axes, keepdims=keep))


@lowers("cumsum")
def _cumulated(low: Lowering, call: Call) -> None:
    a = call.arguments
    x, axis = low.tensor(a["self"]), low.graph.constant(np.array(a["dim"], dtype=np.int64))
    if low.dtype(a["self"]) != (target := low.typed(call.outputs[0])):
        x = low.one("Cast", x, to=TYPES[target])
    low.returns(call, low.one("CumSum", x, axis))


@lowers("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(low: Lowering, call: Call) -> None:
    a = call.arguments
    n = low.rank(a["self"]) - 2
    kernel = ints(a["kernel_size"], n)
    low.returns(call, low.one(
        "MaxPool", low.tensor(a["self"]), kernel_shape=kernel, strides=ints(a["stride"] or kernel, n),
        pads=ints(a["padding"], n) * 2, dilations=ints(a["dilation"], n), ceil_mode=int(bool(a["ceil_mode"])),
    ))  # fmt: skip


@lowers("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(low: Lowering, call: Call) -> None:
    a = call.arguments
    n = low.rank(a["self"]) - 2
    kernel = ints(a["kernel_size"], n)
    before, strides, pads = low.shape(cast(Ref, a["self"]).name)[-n:], a["stride"] or kernel, ints(a["padding"], n)
    sizes = zip(before, kernel, ints(strides, n), pads, strict=True)
    whole = tuple((size + 2 * pad - own) // stride + 1 for size, own, stride, pad in sizes)
    if a.get("divisor_override") is not None or whole != low.shape(call.outputs[0])[-n:]:
        raise LoweringError("there is no rule for an average pooling with divisor_override or of parts of windows")
    low.returns(call, low.one(
        "AveragePool", low.tensor(a["self"]), kernel_shape=kernel, strides=ints(a["stride"] or kernel, n),
        pads=ints(a["padding"], n) * 2, count_include_pad=int(bool(a["count_include_pad"])),
    ))  # fmt: skip


@lowers("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d")
def _adaptive_pool(low: Lowering, call: Call) -> None:
    x = low.tensor(call.arguments["self"])
    n = low.rank(call.arguments["self"]) - 2
    before, after = low.shape(cast(Ref, call.arguments["self"]).name)[-n:], low.shape(call.outputs[0])[-n:]
    kind = "Max" if "max" in call.name else "Average"
    if math.prod(after) == 1:
        low.returns(call, low.one(f"Global{kind}Pool", x))
    elif before == after:
        low.returns(call, low.one("Identity", x))
    elif all(b % s == 0 for b, s in zip(before, after, strict=True)):
        kernel = tuple(b // s for b, s in zip(before, after, strict=True))
        low.returns(call, low.one(f"{kind}Pool", x, kernel_shape=kernel, strides=kernel))
    elif kind == "Average" and n == 2:
        low.returns(call, _by_matrices(low, x, before, after))
    else:
        raise LoweringError(f"there is no rule for an adaptive pooling of {before} to {after}")


def _by_matrices(low: Lowering, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    """An adaptive average pooling of images as two products with constant matrices of window averages."""
    rows, columns = (_windows(b, a) for b, a in zip(before, after, strict=True))
    left = low.one("MatMul", low.graph.constant(rows), x)
    return low.one("MatMul", left, low.graph.constant(np.ascontiguousarray(columns.T)))


def _windows(before: int, after: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    matrix = np.zeros((after, before), dtype=np.float32)
    for i in range(after):
        start, end = i * before // after, -(-(i + 1) * before // after)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


@lowers("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "upsample_linear1d")
def _interpolate(low: Lowering, call: Call) -> None:
    """A product with a constant matrix for each dimension: runtimes differ in cubic weights and antialiasing."""
    a = call.arguments
    x = low.tensor(a["self" if "self" in a else "input"])
    before, after = low.shape(cast(Ref, a["self" if "self" in a else "input"]).name)[2:], low.shape(call.outputs[0])[2:]
    for i, (have, want) in enumerate(zip(before, after, strict=True)):
        if have == want and "aa" not in call.name:
            continue
        weights = _resizing(call, before, i)
        if i == len(before) - 1:
            x = low.one("MatMul", x, low.graph.constant(weights))
        else:
            x = low.one("MatMul", low.graph.constant(np.ascontiguousarray(weights.T)), x)
    low.returns(call, low.one("Identity", x))


def _resizing(call: Call, sizes: Sequence[int], position: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What torch makes of unit vectors along one dimension, (size before, size after)."""
    units = torch.eye(sizes[position])[:, None]
    for i in range(len(sizes)):
        if i != position:
            units = units.unsqueeze(2 + i)
    given = {name: argument for name, argument in call.arguments.items() if not isinstance(argument, Ref)}
    found = operation(call)(units.expand(-1, 1, *sizes), **given)
    for i in reversed(range(len(sizes))):
        if i != position:
            found = found.select(2 + i, 0)  # the same everywhere, since weights sum to 1
    return np.ascontiguousarray(found[:, 0].numpy())


@lowers("upsample_nearest2d", "upsample_bilinear2d")
def _resize(low: Lowering, call: Call) -> None:
    x = call.arguments["self" if "self" in call.arguments else "input"]
    before, after = low.shape(cast(Ref, x).name), low.shape(call.outputs[0])
    scales = np.array([1, 1, after[2] / before[2], after[3] / before[3]], dtype=np.float32)
    bilinear = call.name == "upsample_bilinear2d"
    if not bilinear:
        settings: dict[str, Attribute] = {
            "mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"
        }  # fmt: skip
    else:
        mode = "align_corners" if call.arguments["align_corners"] else "half_pixel"
        settings = {"mode": "linear", "coordinate_transformation_mode": mode}
    low.returns(call, low.one("Resize", low.tensor(x), None, low.graph.constant(scales), **settings))
