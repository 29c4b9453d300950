"""Rules of operations that change shapes."""

from __future__ import annotations

from typing import cast

from supernets.capture.dimensions import (
    Dimension,
    MismatchError,
    divide,
    find,
    fixed,
    product,
    singles,
    unify,
)
from supernets.capture.inference import Inference, reshaped
from supernets.capture.program import Call
from supernets.capture.rules.registry import axes, axis, rule_of


@rule_of("view", "reshape", "_unsafe_view", "_reshape_copy")
def _view(ctx: Inference, call: Call) -> None:
    if not call.op.endswith("default"):
        raise MismatchError("a view as another type")
    out = reshaped(ctx.of(call.arguments["self"]), ctx.shape(call.outputs[0]))
    ctx.depends(**{"size" if "size" in call.arguments else "shape": tuple(out)})
    ctx.returns(call, out)


@rule_of("flatten")
def _flatten(ctx: Inference, call: Call) -> None:
    ctx.returns(call, reshaped(ctx.of(call.arguments["self"]), ctx.shape(call.outputs[0])))


@rule_of("view_as", "reshape_as")
def _view_as(ctx: Inference, call: Call) -> None:
    out = reshaped(ctx.of(call.arguments["self"]), ctx.shape(call.outputs[0]))
    ctx.returns(call, [unify(a, b) for a, b in zip(out, ctx.of(call.arguments["other"]), strict=True)])


@rule_of("unflatten")
def _unflatten(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position, n = axis(call, len(x)), len(cast(tuple[int, ...], call.arguments["sizes"]))
    sizes = ctx.shape(call.outputs[0])[position : position + n]
    parts = divide(x[position], sizes)
    ctx.depends(sizes=tuple(parts))
    ctx.returns(call, [*x[:position], *parts, *x[position + 1 :]])


@rule_of("squeeze")
def _squeeze(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    chosen = axes(call.arguments.get("dim"), len(x))
    ctx.returns(call, [own for i, own in enumerate(x) if not (i in chosen and find(own).size == 1)])


@rule_of("unsqueeze")
def _unsqueeze(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    x.insert(axis(call, len(x) + 1), fixed(1, "a size of 1"))
    ctx.returns(call, x)


@rule_of("transpose", "swapaxes", "swapdims")
def _transpose(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    i, j = (cast(int, value) % len(x) for name, value in call.arguments.items() if name != "self")
    x[i], x[j] = x[j], x[i]
    ctx.returns(call, x)


@rule_of("permute")
def _permute(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    ctx.returns(call, [x[i] for i in axes(call.arguments["dims"], len(x))])


@rule_of("movedim", "moveaxis")
def _movedim(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    source, target = (axes(call.arguments[name], len(x)) for name in ("source", "destination"))
    moved = dict(zip(target, source, strict=True))
    rest = iter(i for i in range(len(x)) if i not in source)
    ctx.returns(call, [x[moved[i]] if i in moved else x[next(rest)] for i in range(len(x))])


@rule_of("t", "numpy_T", "mT")
def _t(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    ctx.returns(call, x[::-1] if call.name != "mT" else [*x[:-2], x[-1], x[-2]])


@rule_of("expand", "broadcast_to")
def _expand(ctx: Inference, call: Call) -> None:
    x, sizes = ctx.of(call.arguments["self"]), ctx.shape(call.outputs[0])
    x = [fixed(1, "a size of 1") for _ in range(len(sizes) - len(x))] + x
    out = [
        own if find(own).size == size else ctx.batch if not i and size == ctx.program.batch else fixed(size, "expanded")
        for i, (own, size) in enumerate(zip(x, sizes, strict=True))
    ]
    ctx.depends(size=tuple(out))
    ctx.returns(call, out)


@rule_of("repeat", "tile")
def _repeat(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    times = list(cast(tuple[int, ...], call.arguments["repeats" if call.name == "repeat" else "dims"]))
    times = [1] * (len(x) - len(times)) + times
    x = [fixed(1, "a size of 1") for _ in range(len(times) - len(x))] + x
    counts: list[Dimension | int] = [
        ctx.batch if not i and n == ctx.program.batch and all(one is not ctx.batch for one in singles(own)) else n
        for i, (own, n) in enumerate(zip(x, times, strict=True))
    ]
    if call.name == "repeat":
        ctx.depends(repeats=tuple(counts))
    ctx.returns(call, [
        own if n == 1 else product([n if isinstance(n, Dimension) else fixed(n, "repeated"), own])
        for own, n in zip(x, counts, strict=True)
    ])  # fmt: skip


@rule_of("repeat_interleave")
def _repeat_interleave(ctx: Inference, call: Call) -> None:
    x, n = ctx.of(call.arguments["self"]), cast(int, call.arguments["repeats"])
    position = axis(call, len(x))
    x[position] = product([x[position], fixed(n, "repeated")])
    ctx.returns(call, x)


@rule_of("new_zeros", "new_ones", "new_full", "new_empty")
def _new(ctx: Inference, call: Call) -> None:
    sizes = ctx.shape(call.outputs[0])
    out = [ctx.batch if not i and n == ctx.program.batch else fixed(n, "created") for i, n in enumerate(sizes)]
    ctx.depends(size=tuple(out))
    ctx.returns(call, out)
