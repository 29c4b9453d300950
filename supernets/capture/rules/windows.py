"""Rules of operations that take overlapping windows out of an image, and put them back."""

from __future__ import annotations

from math import prod
from typing import cast

from supernets.capture.dimensions import divide, find, fix, fixed, product
from supernets.capture.inference import Inference
from supernets.capture.program import Call
from supernets.capture.rules.registry import axis, extents, rule_of


@rule_of("im2col")
def _windows(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    for extent in x[-2:]:
        fix(extent, "an extent of the image")
    size = fixed(prod(cast(tuple[int, ...], call.arguments["kernel_size"])), "a window")
    ctx.returns(call, [*x[:-3], product([x[-3], size]), *extents(ctx, call, -1)])


@rule_of("col2im")
def _image(ctx: Inference, call: Call) -> None:
    x, size = ctx.of(call.arguments["self"]), prod(cast(tuple[int, ...], call.arguments["kernel_size"]))
    channels, window = divide(x[-2], [find(x[-2]).size // size, size])
    fix(window, "a window")
    fix(x[-1], "windows of the image")
    ctx.returns(call, [*x[:-2], channels, *extents(ctx, call, -2)])


@rule_of("unfold")
def _unfold(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = axis(call, len(x), "dimension")
    fix(x[position], "windows are taken out of it")
    x[position] = fixed(ctx.shape(call.outputs[0])[position], "windows")
    ctx.returns(call, [*x, fixed(cast(int, call.arguments["size"]), "a window")])
