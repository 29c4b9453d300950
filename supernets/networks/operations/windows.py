"""Operations that take overlapping windows out of an image, and put them back."""

from __future__ import annotations

from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from supernets.networks.capture.dimensions import divide, find, fix, fixed, product
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Call, Ref
from supernets.networks.lowering.state import Lowering, ints
from supernets.networks.operations.registry import axis, check_batched, extents, lowers, rule_of


@rule_of("im2col", neutral=("dilation", "padding", "stride"))
def _windows_dims(ctx: Inference, call: Call) -> None:
    x = ctx.tensor_dims(call.arguments["self"])
    for extent in x[-2:]:
        fix(extent, "an extent of the image")
    size = fixed(prod(cast(tuple[int, ...], call.arguments["kernel_size"])), "a window")
    ctx.returns(call, [*x[:-3], product([x[-3], size]), *extents(ctx, call, -1)])


def _starts(n: int, step: int, size: int, dilation: int = 1) -> NDArray[np.int64]:
    """Positions of the elements of n windows, (n, size)."""
    positions: NDArray[Any] = np.arange(n)[:, None] * step + np.arange(size)[None] * dilation
    return positions.astype(np.int64)


@lowers("im2col")
def _lower_windows(low: Lowering, call: Call) -> None:
    """Two gathers: of the rows of every window, then of the columns."""
    a = call.arguments
    check_batched(call, low.rank(a["self"]))
    x, shape = low.tensor(a["self"]), low.shape(cast(Ref, a["self"]).name)
    kernel, dilations, pads, steps = (ints(a[name], 2) for name in ("kernel_size", "dilation", "padding", "stride"))
    if any(pads):
        x = low.add("Pad", x, low.numbers([0, 0, *pads, 0, 0, *pads]))
    for i, (size, width, dilation, pad, step) in enumerate(zip(shape[2:], kernel, dilations, pads, steps, strict=True)):
        n = (size + 2 * pad - dilation * (width - 1) - 1) // step + 1
        x = low.add("Gather", x, low.constant(_starts(n, step, width, dilation).T.copy()), axis=2 + 2 * i)
    x = low.add("Transpose", x, perm=(0, 1, 2, 4, 3, 5))
    low.returns(call, low.add("Reshape", x, low.numbers([0, *low.shape(call.outputs[0])[1:]])))


@rule_of("col2im", neutral=("output_size", "dilation", "padding", "stride"))
def _image_dims(ctx: Inference, call: Call) -> None:
    x, size = ctx.tensor_dims(call.arguments["self"]), prod(cast(tuple[int, ...], call.arguments["kernel_size"]))
    channels, window = divide(x[-2], [find(x[-2]).size // size, size])
    fix(window, "a window")
    fix(x[-1], "windows of the image")
    ctx.returns(call, [*x[:-2], channels, *extents(ctx, call, -2)])


@lowers("col2im")
def _lower_image(low: Lowering, call: Call) -> None:
    a = call.arguments
    low.returns(
        call,
        low.add(
            "Col2Im",
            low.tensor(a["self"]),
            low.numbers(ints(a["output_size"], 2)),
            low.numbers(ints(a["kernel_size"], 2)),
            dilations=ints(a["dilation"], 2),
            pads=ints(a["padding"], 2) * 2,
            strides=ints(a["stride"], 2),
        ),
    )


@rule_of("unfold", neutral=("step",))
def _unfold_dims(ctx: Inference, call: Call) -> None:
    x = ctx.tensor_dims(call.arguments["self"])
    position = axis(call, len(x), "dimension")
    fix(x[position], "windows are taken out of it")
    x[position] = fixed(ctx.shape(call.outputs[0])[position], "windows")
    ctx.returns(call, [*x, fixed(cast(int, call.arguments["size"]), "a window")])


@lowers("unfold")
def _lower_unfold(low: Lowering, call: Call) -> None:
    a = call.arguments
    rank = low.rank(a["self"])
    axis, size, step = cast(int, a["dimension"]) % rank, cast(int, a["size"]), cast(int, a["step"])
    n = low.shape(call.outputs[0])[axis]
    x = low.add("Gather", low.tensor(a["self"]), low.constant(_starts(n, step, size)), axis=axis)
    low.returns(call, low.add("Transpose", x, perm=(*range(axis + 1), *range(axis + 2, rank + 1), axis + 1)))
