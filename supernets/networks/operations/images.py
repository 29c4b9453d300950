"""Operations on images: padding, pooling, resizing, shuffles of channels and pixels, and windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import (
    BATCH_REASON,
    MismatchError,
    concatenation,
    derived,
    divide,
    find,
    fix,
    fixed,
    is_plain,
    product,
    singles,
    unify,
)
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Call, Ref
from supernets.networks.lowering.state import Lowering, ints
from supernets.networks.onnx_graph.ir import Attribute, Value
from supernets.networks.operations.arguments import operation
from supernets.networks.operations.elementwise import typed_operand
from supernets.networks.operations.registry import (
    ResultDims,
    ResultValues,
    axis,
    by_rank,
    check_batched,
    extents,
    is_symbolic_extent,
    lowers,
    n_extents,
    rule_of,
)

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
_PADDINGS = {"reflection": "reflect", "replication": "replicate"}


def _padding(call: Call) -> tuple[str, tuple[int, ...]]:
    """The mode of a padding, and the amounts before and after each dimension from the last one on."""
    a = call.arguments
    mode = a["mode"] if "mode" in a else _PADDINGS.get(call.name.partition("_")[0], "constant")
    return cast(str, mode), cast(tuple[int, ...], a["pad" if "pad" in a else "padding"])


@rule_of("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad2d")
def _pad_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    mode, amounts = _padding(call)
    for i in range(len(amounts) // 2):
        before, after = amounts[2 * i : 2 * i + 2]
        position = len(x) - 1 - i
        if before == after == 0:
            continue
        if before < 0 or after < 0 or mode != "constant":
            fix(x[position], "cut, or padded by its own units")
        if any(single.fixed.startswith(BATCH_REASON) for single in singles(x[position])):
            raise MismatchError("a padding of the batch")
        if is_plain(x[position]):
            x[position] = fixed(ctx.shape(call.outputs[0])[position], "padded")
        else:
            x[position] = concatenation([fixed(before, "padding"), x[position], fixed(after, "padding")])
    return x


@lowers("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad2d")
def _lower_pad(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    mode, amounts = _padding(call)
    if mode == "circular":
        return _circularly_padded(low, call, amounts)
    if mode not in _MODES:
        raise LoweringError(f"there is no rule for pad(mode={mode!r})")
    rank = low.rank(a["self"])
    before, after = [0] * rank, [0] * rank
    for i in range(len(amounts) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    pads = low.numbers([*before, *after])
    if mode == "constant" and not a.get("value"):
        return low.add("Pad", low.tensor(a["self"]), pads)
    value = typed_operand(low, a.get("value") or 0, low.result_type(call))
    return low.add("Pad", low.tensor(a["self"]), pads, value, mode=_MODES[mode])


def _circularly_padded(low: Lowering, call: Call, amounts: tuple[int, ...]) -> Value:
    """A value with its last units before its first ones, and the reverse; this opset has no such mode of its operation."""
    x, rank = low.tensor(call.arguments["self"]), low.rank(call.arguments["self"])
    for i in range(len(amounts) // 2):
        before, after, axis = amounts[2 * i], amounts[2 * i + 1], rank - 1 - i
        if before < 0 or after < 0:
            raise LoweringError("there is no rule for a circular padding that cuts units off")
        parts = [x]
        if before:
            bounds = ([-before], [2**62], [axis])
            parts.insert(0, low.add("Slice", x, *map(low.numbers, bounds)))
        if after:
            parts.append(low.add("Slice", x, *map(low.numbers, ([0], [after], [axis]))))
        x = low.add("Concat", *parts, axis=axis) if len(parts) > 1 else x
    return low.add("Identity", x) if x is low.tensor(call.arguments["self"]) else x


@rule_of(
    *by_rank("max_pool"),
    *by_rank("avg_pool"),
    *by_rank("adaptive_avg_pool"),
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "max_pool2d_with_indices",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "upsample_linear1d",
    "upsample_trilinear3d",
    "upsample_nearest3d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    neutral=(
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
        "output_size",
        "align_corners",
        "scale_factors",
        "scales",
        "scales_d",
        "scales_h",
        "scales_w",
    ),
)
def _pool_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self" if "self" in call.arguments else "input"])
    if call.name in ("max_pool2d", "avg_pool2d") and any(is_symbolic_extent(ctx, extent) for extent in x[-2:]):
        a = call.arguments
        if a["ceil_mode"] or set(ints(a.get("dilation", 1), 2)) != {1}:
            raise MismatchError("parts of windows, or dilated ones, of an extent that is not fixed")
        kernel, strides, pads = (
            ints(argument, 2) for argument in (a["kernel_size"], a["stride"] or a["kernel_size"], a["padding"])
        )
        out = [derived(extent, 2 * p - k, s) for extent, k, s, p in zip(x[-2:], kernel, strides, pads, strict=True)]
        return [*x[:-2], *out]
    n = n_extents(call)
    for extent in x[-n:]:
        fix(extent, "an extent of the image")
    return tuple([*x[:-n], *extents(ctx, call, -n, i)] for i, name in enumerate(call.outputs) if name)


@rule_of("grid_sampler", "grid_sampler_2d", neutral=("interpolation_mode", "padding_mode", "align_corners"))
def _sampled_dims(ctx: Inference, call: Call) -> ResultDims:
    x, grid = ctx.tensor_dims(call.arguments["input"]), ctx.tensor_dims(call.arguments["grid"])
    n = len(x) - 2
    unify(x[0], grid[0])
    for extent in (*x[2:], *grid[1:]):
        fix(extent, "an extent of the image")
    return [*x[:2], *extents(ctx, call, -n)]


@lowers("grid_sampler", "grid_sampler_2d")
def _lower_sampled(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    if low.rank(a["input"]) != 4:
        raise LoweringError("there is no rule for samples of a volume")
    mode = ("bilinear", "nearest", "bicubic")[cast(int, a["interpolation_mode"])]
    outside = ("zeros", "border", "reflection")[cast(int, a["padding_mode"])]
    x, grid = low.tensor(a["input"]), low.tensor(a["grid"])
    return low.add("GridSample", x, grid, mode=mode, padding_mode=outside, align_corners=int(bool(a["align_corners"])))


@lowers(*by_rank("max_pool"), neutral=("ceil_mode",))
def _lower_max_pool(low: Lowering, call: Call) -> ResultValues:
    a, n = call.arguments, n_extents(call)
    check_batched(call, low.rank(a["self"]))
    kernel, dilations, pads = (ints(a[name], n) for name in ("kernel_size", "dilation", "padding"))
    strides = ints(a["stride"] or kernel, n)
    before, after = low.shape(a["self"])[-n:], low.result_shape(call)[-n:]
    # ONNX counts windows that begin after the last unit, too, so that parts of windows are padded here.
    windows = zip(before, after, kernel, strides, dilations, pads, strict=True)
    ends = tuple(
        max(pad, (n_after - 1) * step + dilation * (width - 1) + 1 - size - pad)
        for size, n_after, width, step, dilation, pad in windows
    )
    x = low.tensor(a["self"])
    if any(end >= width for end, width in zip(ends, kernel, strict=True)):  # runtimes reject such a pooling
        amounts = low.numbers([0, 0, *pads, 0, 0, *ends])
        x, pads, ends = low.add("Pad", x, amounts, low.scalar(-math.inf)), (0,) * n, (0,) * n
    return low.add(
        "MaxPool", x, kernel_shape=kernel, strides=strides, pads=(*pads, *ends), dilations=dilations, ceil_mode=0
    )


@lowers(*by_rank("avg_pool"), neutral=("ceil_mode",))
def _lower_avg_pool(low: Lowering, call: Call) -> ResultValues:
    a, n = call.arguments, n_extents(call)
    check_batched(call, low.rank(a["self"]))
    kernel, strides, pads = (
        ints(argument, n) for argument in (a["kernel_size"], a["stride"] or a["kernel_size"], a["padding"])
    )
    sizes = zip(low.shape(a["self"])[-n:], kernel, strides, pads, strict=True)
    full_windows = tuple((size + 2 * pad - width) // stride + 1 for size, width, stride, pad in sizes)
    if a.get("divisor_override") is not None or full_windows != low.result_shape(call)[-n:]:
        raise LoweringError("there is no rule for an average pooling with divisor_override or of parts of windows")
    counted, x = int(bool(a["count_include_pad"])), low.tensor(a["self"])
    return low.add("AveragePool", x, kernel_shape=kernel, strides=strides, pads=pads * 2, count_include_pad=counted)


@lowers(*by_rank("adaptive_avg_pool"), "adaptive_max_pool2d", neutral=("output_size",))
def _lower_adaptive_pool(low: Lowering, call: Call) -> ResultValues:
    x, n = low.tensor(call.arguments["self"]), n_extents(call)
    check_batched(call, low.rank(call.arguments["self"]))
    before, after = low.shape(call.arguments["self"])[-n:], low.result_shape(call)[-n:]
    kind = "Max" if "max" in call.name else "Average"
    if math.prod(after) == 1:
        return low.add(f"Global{kind}Pool", x)
    if before == after:
        return low.add("Identity", x)
    if all(b % s == 0 for b, s in zip(before, after, strict=True)):
        kernel = tuple(b // s for b, s in zip(before, after, strict=True))
        return low.add(f"{kind}Pool", x, kernel_shape=kernel, strides=kernel)
    if kind == "Average" and n == 2:
        return _by_matrices(low, x, before, after)
    raise LoweringError(f"there is no rule for an adaptive pooling of {before} to {after}")


def _by_matrices(low: Lowering, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    """An adaptive average pooling of images as two products with constant matrices of window averages."""
    rows, columns = (_windows(b, a) for b, a in zip(before, after, strict=True))
    left = low.add("MatMul", low.constant(rows), x)
    return low.add("MatMul", left, low.constant(np.ascontiguousarray(columns.T)))


def _windows(before: int, after: int) -> NDArray[np.float32]:
    matrix = np.zeros((after, before), dtype=np.float32)
    for i in range(after):
        start, end = i * before // after, -(-(i + 1) * before // after)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


@lowers(
    "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "upsample_linear1d", "upsample_nearest1d"
)
def _lower_interpolate(low: Lowering, call: Call) -> ResultValues:
    """A product with a constant matrix for each dimension: runtimes differ in weights, antialiasing and rounded scales."""
    a = call.arguments
    x = low.tensor(a["self" if "self" in a else "input"])
    before = low.shape(a["self" if "self" in a else "input"])[2:]
    for i in range(len(before)):
        weights = _resizing(call, before, i)
        if np.array_equal(weights, np.eye(before[i])):
            continue
        if i == len(before) - 1:
            x = low.add("MatMul", x, low.constant(weights))
        else:
            x = low.add("MatMul", low.constant(np.ascontiguousarray(weights.T)), x)
    return low.add("Identity", x)


def _resizing(call: Call, sizes: Sequence[int], position: int) -> NDArray[np.float32]:
    """The matrix of torch's resizing along one dimension, (size before, size after): its outputs for unit vectors."""
    units = torch.eye(sizes[position])[:, None]
    for i in range(len(sizes)):
        if i != position:
            units = units.unsqueeze(2 + i)
    arguments = {name: argument for name, argument in call.arguments.items() if not isinstance(argument, Ref)}
    result = operation(call)(units.expand(-1, 1, *sizes), **arguments)
    for i in reversed(range(len(sizes))):
        if i != position:
            result = result.select(2 + i, 0)  # the same everywhere, since weights sum to 1
    return np.ascontiguousarray(result[:, 0].numpy())


@lowers("upsample_nearest2d", "upsample_bilinear2d", neutral=("output_size",))
def _lower_resize(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    x = a["self" if "self" in a else "input"]
    before, after = low.shape(x), low.result_shape(call)
    scales_or_none = a["scale_factors"] if "scale_factors" in a else (a["scales_h"], a["scales_w"])
    factors = cast(tuple[float | None, ...], scales_or_none or (None, None))
    for size, new_size, factor in zip(before[2:], after[2:], factors, strict=True):
        if new_size % size or factor not in (None, new_size / size):
            return _lower_interpolate(low, call)
    scales = np.array([1, 1, after[2] / before[2], after[3] / before[3]], dtype=np.float32)
    bilinear = call.name == "upsample_bilinear2d"
    if not bilinear:
        settings: dict[str, Attribute] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
    else:
        mode = "align_corners" if a["align_corners"] else "half_pixel"
        settings = {"mode": "linear", "coordinate_transformation_mode": mode}
    return low.add("Resize", low.tensor(x), None, low.constant(scales), **settings)


@rule_of("pixel_shuffle")
def _pixel_shuffle_dims(ctx: Inference, call: Call) -> ResultDims:
    x, factor = ctx.tensor_dims(call.arguments["self"]), cast(int, call.arguments["upscale_factor"])
    channels, square = divide(x[-3], [find(x[-3]).size // factor**2, factor**2])
    for dimension in (square, *x[-2:]):
        fix(dimension, "pixels")
    return [*x[:-3], channels, *extents(ctx, call, -2)]


@lowers("pixel_shuffle")
def _lower_pixel_shuffle(low: Lowering, call: Call) -> ResultValues:
    factor = cast(int, call.arguments["upscale_factor"])
    if low.rank(call.arguments["self"]) != 4:
        raise LoweringError("there is no rule for a pixel shuffle of another rank than 4")
    return low.add("DepthToSpace", low.tensor(call.arguments["self"]), blocksize=factor, mode="CRD")


@rule_of("pixel_unshuffle")
def _pixel_unshuffle_dims(ctx: Inference, call: Call) -> ResultDims:
    x, factor = ctx.tensor_dims(call.arguments["self"]), cast(int, call.arguments["downscale_factor"])
    for extent in x[-2:]:
        fix(extent, "pixels")
    return [*x[:-3], product([x[-3], fixed(factor**2, "pixels")]), *extents(ctx, call, -2)]


@lowers("pixel_unshuffle")
def _lower_pixel_unshuffle(low: Lowering, call: Call) -> ResultValues:
    """Channels of the result are ordered by channel first, and SpaceToDepth's by pixel."""
    factor, shape = cast(int, call.arguments["downscale_factor"]), low.result_shape(call)
    if len(shape) != 4:
        raise LoweringError("there is no rule for a pixel unshuffle of another rank than 4")
    _, channels, height, width = shape
    x = low.add("SpaceToDepth", low.tensor(call.arguments["self"]), blocksize=factor)
    x = low.add("Reshape", x, low.numbers([0, factor**2, channels // factor**2, height, width]))
    x = low.add("Transpose", x, perm=(0, 2, 1, 3, 4))
    return low.add("Reshape", x, low.numbers([0, channels, height, width]))


@rule_of("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle_dims(ctx: Inference, call: Call) -> ResultDims:
    x, n = ctx.tensor_dims(call.arguments["self"]), cast(int, call.arguments["groups"])
    groups, units = divide(x[1], [n, find(x[1]).size // n])
    fix(groups, "groups of a shuffle")
    x[1] = product([units, groups])
    return x


@lowers("channel_shuffle", "native_channel_shuffle")
def _lower_channel_shuffle(low: Lowering, call: Call) -> ResultValues:
    groups, shape = cast(int, call.arguments["groups"]), low.result_shape(call)
    x = low.add("Reshape", low.tensor(call.arguments["self"]), low.numbers([0, groups, -1, *shape[2:]]))
    x = low.add("Transpose", x, perm=(0, 2, 1, *range(3, len(shape) + 1)))
    return low.add("Reshape", x, low.numbers([0, *shape[1:]]))


@rule_of("im2col", neutral=("dilation", "padding", "stride"))
def _windows_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    for extent in x[-2:]:
        fix(extent, "an extent of the image")
    size = fixed(math.prod(cast(tuple[int, ...], call.arguments["kernel_size"])), "a window")
    return [*x[:-3], product([x[-3], size]), *extents(ctx, call, -1)]


def _starts(n: int, step: int, size: int, dilation: int = 1) -> NDArray[np.int64]:
    """Positions of the elements of n windows, (n, size)."""
    positions: NDArray[Any] = np.arange(n)[:, None] * step + np.arange(size)[None] * dilation
    return positions.astype(np.int64)


@lowers("im2col")
def _lower_windows(low: Lowering, call: Call) -> ResultValues:
    """Two gathers: of the rows of every window, then of the columns."""
    a = call.arguments
    check_batched(call, low.rank(a["self"]))
    x, shape = low.tensor(a["self"]), low.shape(a["self"])
    kernel, dilations, pads, steps = (ints(a[name], 2) for name in ("kernel_size", "dilation", "padding", "stride"))
    if any(pads):
        x = low.add("Pad", x, low.numbers([0, 0, *pads, 0, 0, *pads]))
    for i, (size, width, dilation, pad, step) in enumerate(zip(shape[2:], kernel, dilations, pads, steps, strict=True)):
        n = (size + 2 * pad - dilation * (width - 1) - 1) // step + 1
        x = low.add("Gather", x, low.constant(_starts(n, step, width, dilation).T.copy()), axis=2 + 2 * i)
    x = low.add("Transpose", x, perm=(0, 1, 2, 4, 3, 5))
    return low.add("Reshape", x, low.numbers([0, *low.result_shape(call)[1:]]))


@rule_of("col2im", neutral=("output_size", "dilation", "padding", "stride"))
def _image_dims(ctx: Inference, call: Call) -> ResultDims:
    x, size = ctx.tensor_dims(call.arguments["self"]), math.prod(cast(tuple[int, ...], call.arguments["kernel_size"]))
    channels, window = divide(x[-2], [find(x[-2]).size // size, size])
    fix(window, "a window")
    fix(x[-1], "windows of the image")
    return [*x[:-2], channels, *extents(ctx, call, -2)]


@lowers("col2im")
def _lower_image(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    return low.add(
        "Col2Im",
        low.tensor(a["self"]),
        low.numbers(ints(a["output_size"], 2)),
        low.numbers(ints(a["kernel_size"], 2)),
        dilations=ints(a["dilation"], 2),
        pads=ints(a["padding"], 2) * 2,
        strides=ints(a["stride"], 2),
    )


@rule_of("unfold", neutral=("step",))
def _unfold_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    position = axis(call, len(x), "dimension")
    fix(x[position], "windows are taken out of it")
    x[position] = fixed(ctx.shape(call.outputs[0])[position], "windows")
    return [*x, fixed(cast(int, call.arguments["size"]), "a window")]


@lowers("unfold")
def _lower_unfold(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    rank = low.rank(a["self"])
    axis, size, step = cast(int, a["dimension"]) % rank, cast(int, a["size"]), cast(int, a["step"])
    n = low.result_shape(call)[axis]
    x = low.add("Gather", low.tensor(a["self"]), low.constant(_starts(n, step, size)), axis=axis)
    return low.add("Transpose", x, perm=(*range(axis + 1), *range(axis + 2, rank + 1), axis + 1))
