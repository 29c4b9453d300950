"""Operations that join and divide tensors."""

from __future__ import annotations

from typing import cast

from supernets.capture.dimensions import (
    concatenation,
    find,
    fix,
    fixed,
    split,
    unify,
)
from supernets.capture.inference import Inference
from supernets.capture.lowering.state import Lowering, lowers
from supernets.capture.operations.registry import (
    axis,
    rule_of,
)
from supernets.capture.program import Argument, Call


@rule_of("cat", "concat")
def _cat_dims(ctx: Inference, call: Call) -> None:
    parts = [ctx.of(part) for part in cast(tuple[Argument, ...], call.arguments["tensors"])]
    parts = [part for part in parts if len(part) > 1 or find(part[0]).size]
    position = axis(call, len(parts[0]))
    out = list(parts[0])
    for part in parts[1:]:
        out = [own if i == position else unify(own, part[i]) for i, own in enumerate(out)]
    out[position] = concatenation([part[position] for part in parts])
    ctx.returns(call, out)


@lowers("cat", "concat")
def _lower_concatenate(low: Lowering, call: Call) -> None:
    parts = [low.tensor(one) for one in cast(tuple[Argument, ...], call.arguments["tensors"])]
    low.returns(call, low.one("Concat", *parts, axis=cast(int, call.arguments["dim"])))


@rule_of("stack")
def _stack_dims(ctx: Inference, call: Call) -> None:
    parts = [ctx.of(part) for part in cast(tuple[Argument, ...], call.arguments["tensors"])]
    out = parts[0]
    for part in parts[1:]:
        out = [unify(a, b) for a, b in zip(out, part, strict=True)]
    out = list(out)
    out.insert(axis(call, len(out) + 1), fixed(len(parts), "stacked"))
    ctx.returns(call, out)


@lowers("stack")
def _lower_stack(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"]) % len(low.shape(call.outputs[0]))
    parts = [low.tensor(one) for one in cast(tuple[Argument, ...], call.arguments["tensors"])]
    low.returns(
        call, low.one("Concat", *[low.one("Unsqueeze", part, low.numbers([axis])) for part in parts], axis=axis)
    )


@rule_of("split", "split_with_sizes", "chunk", "tensor_split")
def _split_dims(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = axis(call, len(x))
    sizes = [ctx.shape(name)[position] if name else 0 for name in call.outputs]
    missing = find(x[position]).size - sum(sizes)
    if missing:  # of outputs that nothing reads
        unread = [i for i, name in enumerate(call.outputs) if not name]
        sizes = [missing // len(unread) if i in unread else size for i, size in enumerate(sizes)]
    pieces = split(x[position], sizes)
    ctx.depends(split_sizes=tuple(pieces))
    ctx.returns(call, *([*x[:position], piece, *x[position + 1 :]] for piece in pieces))


@lowers("split_with_sizes", "split", "chunk", "tensor_split")
def _lower_split(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"]) % low.rank(call.arguments["self"])
    if len({low.shape(name)[axis] for name in call.outputs if name}) == 1 and all(call.outputs):
        n = len(call.outputs)
        low.returns(
            call, *low.emit("Split", [low.tensor(call.arguments["self"])], {"axis": axis, "num_outputs": n}, n=n)
        )
        return
    sizes = low.numbers([low.shape(name)[axis] for name in call.outputs])
    low.returns(
        call, *low.emit("Split", [low.tensor(call.arguments["self"]), sizes], {"axis": axis}, n=len(call.outputs))
    )


@rule_of("glu")
def _glu_dims(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = axis(call, len(x))
    half = find(x[position]).size // 2
    first, second = split(x[position], [half, half])
    x[position] = unify(first, second)
    ctx.returns(call, x)


@lowers("glu")
def _lower_glu(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"])
    a, b = low.emit("Split", [low.tensor(call.arguments["self"])], {"axis": axis, "num_outputs": 2}, n=2)
    low.returns(call, low.one("Mul", a, low.one("Sigmoid", b)))


@rule_of("unbind")
def _unbind_dims(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = axis(call, len(x))
    fix(x[position], "taken apart unit by unit")
    ctx.returns(call, *([own for i, own in enumerate(x) if i != position] for _ in call.outputs))


@lowers("unbind")
def _lower_unbind(low: Lowering, call: Call) -> None:
    axis, n = cast(int, call.arguments["dim"]), len(call.outputs)
    parts = low.emit("Split", [low.tensor(call.arguments["self"])], {"axis": axis, "num_outputs": n}, n=n)
    low.returns(call, *[low.one("Squeeze", part, low.numbers([axis])) for part in parts])
