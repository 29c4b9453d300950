"""Rules of reductions and pooling."""

from __future__ import annotations

from supernets.capture.dimensions import (
    derived,
    fix,
    fixed,
    is_plain,
)
from supernets.capture.inference import Inference
from supernets.capture.lowering.state import ints
from supernets.capture.program import Call
from supernets.capture.rules.registry import RULES, axes, extents, rule_of


@rule_of(
    "mean", "sum", "amax", "amin", "logsumexp", "linalg_vector_norm", "norm", "var", "std", "var_mean", "std_mean", "prod",
    "any", "all", "max", "min", "argmax", "argmin",
)  # fmt: skip
def _reduce(ctx: Inference, call: Call) -> None:
    given = call.arguments.get("dim")
    x = ctx.of(call.arguments["self"])
    if "other" in call.arguments:
        RULES["maximum"](ctx, call)
        return
    if call.name in ("argmax", "argmin") or (call.name in ("max", "min") and len(call.outputs) > 1):
        for position in axes(given, len(x)):
            fix(x[position], "a position in it is chosen")
    chosen = axes(given, len(x))
    if call.arguments.get("keepdim"):
        out = [fixed(1, "a size of 1") if i in chosen else own for i, own in enumerate(x)]
    else:
        out = [own for i, own in enumerate(x) if i not in chosen]
    ctx.returns(call, *([out] * len(call.outputs)))


@rule_of(
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "max_pool2d_with_indices", "upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
    "upsample_linear1d", "upsample_trilinear3d", "upsample_nearest3d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa", "grid_sampler", "grid_sampler_2d",
)  # fmt: skip
def _pool(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self" if "self" in call.arguments else "input"])
    if call.name in ("max_pool2d", "avg_pool2d") and not all(map(is_plain, x[-2:])):
        a = call.arguments
        kernel, pads = ints(a["kernel_size"], 2), ints(a["padding"], 2)
        strides, dilations = ints(a["stride"] or kernel, 2), ints(a.get("dilation", 1), 2)
        if not a["ceil_mode"] and dilations == (1, 1):
            windows = zip(x[-2:], kernel, strides, pads, strict=True)
            ctx.returns(call, [*x[:-2], *(derived(extent, 2 * p - k, s) for extent, k, s, p in windows)])
            return
    n = {"1": 1, "2": 2, "3": 3}.get(next((c for c in call.name if c in "123"), "2"), 2)
    for extent in x[-n:]:
        fix(extent, "an extent of the image")
    ctx.returns(call, *([*x[:-n], *extents(ctx, call, -n, i)] for i, name in enumerate(call.outputs) if name))
