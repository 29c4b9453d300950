"""Rules of operations that join, divide and choose parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from supernets.capture.dimensions import (
    Dimension,
    MismatchError,
    concatenation,
    divide,
    find,
    fix,
    fixed,
    product,
    singles,
    split,
    unify,
)
from supernets.capture.inference import Inference
from supernets.capture.program import Argument, Call
from supernets.capture.rules.registry import axis, extents, rule_of


@rule_of("cat", "concat")
def _cat(ctx: Inference, call: Call) -> None:
    parts = [ctx.of(part) for part in cast(tuple[Argument, ...], call.arguments["tensors"])]
    parts = [part for part in parts if len(part) > 1 or find(part[0]).size]
    position = axis(call, len(parts[0]))
    out = list(parts[0])
    for part in parts[1:]:
        out = [own if i == position else unify(own, part[i]) for i, own in enumerate(out)]
    out[position] = concatenation([part[position] for part in parts])
    ctx.returns(call, out)


@rule_of("stack")
def _stack(ctx: Inference, call: Call) -> None:
    parts = [ctx.of(part) for part in cast(tuple[Argument, ...], call.arguments["tensors"])]
    out = parts[0]
    for part in parts[1:]:
        out = [unify(a, b) for a, b in zip(out, part, strict=True)]
    out = list(out)
    out.insert(axis(call, len(out) + 1), fixed(len(parts), "stacked"))
    ctx.returns(call, out)


@rule_of("split", "split_with_sizes", "chunk", "tensor_split")
def _split(ctx: Inference, call: Call) -> None:
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


@rule_of("glu")
def _glu(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = axis(call, len(x))
    half = find(x[position]).size // 2
    first, second = split(x[position], [half, half])
    x[position] = unify(first, second)
    ctx.returns(call, x)


@rule_of("unbind")
def _unbind(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = axis(call, len(x))
    fix(x[position], "taken apart unit by unit")
    ctx.returns(call, *([own for i, own in enumerate(x) if i != position] for _ in call.outputs))


@rule_of("select")
def _select(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = axis(call, len(x))
    fix(x[position], "one unit of it is selected")
    ctx.returns(call, [own for i, own in enumerate(x) if i != position])


@rule_of("slice", "narrow")
def _slice(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = axis(call, len(x))
    x[position] = _part(ctx, call, x[position], ctx.shape(call.outputs[0])[position])
    ctx.returns(call, x)


def _part(ctx: Inference, call: Call, whole: Dimension, kept: int) -> Dimension:
    """The part of a dimension that a slice takes, whose bounds follow the sizes."""
    size = find(whole).size
    start, step = cast(int | None, call.arguments["start"]) or 0, call.arguments.get("step", 1)
    if kept == size and step == 1:
        if "end" in call.arguments:
            ctx.depends(end=2**62)
        else:
            ctx.depends(length=whole)
        return whole
    if step != 1 or find(whole).fixed or all(own.fixed for own in singles(whole)):
        fix(whole, "a part of it is taken")
        return fixed(kept, "a part of a fixed size")
    first = start % size if start < 0 else min(start, size)
    sizes = [first, kept, size - first - kept]
    before, piece, _ = (
        split(whole, [n for n in sizes if n])
        if all(sizes)
        else _with_empty(split(whole, [n for n in sizes if n]), sizes)
    )
    if "end" in call.arguments:
        ctx.depends(start=before, end=concatenation([before, piece]) if sizes[0] else piece)
    else:
        ctx.depends(start=before, length=piece)
    return piece


@rule_of("slice_scatter")
def _slice_scatter(ctx: Inference, call: Call) -> None:
    x, part = ctx.of(call.arguments["self"]), ctx.of(call.arguments["src"])
    position = axis(call, len(x))
    unify(_part(ctx, call, x[position], find(part[position]).size), part[position])
    ctx.returns(call, [own if i == position else unify(own, part[i]) for i, own in enumerate(x)])


@rule_of("select_scatter")
def _select_scatter(ctx: Inference, call: Call) -> None:
    x, part = ctx.of(call.arguments["self"]), ctx.of(call.arguments["src"])
    position = axis(call, len(x))
    fix(x[position], "one unit of it is selected")
    part.insert(position, x[position])
    ctx.returns(call, [unify(a, b) for a, b in zip(x, part, strict=True)])


def _with_empty(pieces: list[Dimension], sizes: Sequence[int]) -> list[Dimension]:
    left = iter(pieces)
    return [next(left) if size else fixed(0, "empty") for size in sizes]


@rule_of("gather")
def _gather(ctx: Inference, call: Call) -> None:
    x, index = ctx.of(call.arguments["self"]), ctx.of(call.arguments["index"])
    position = axis(call, len(x))
    fix(x[position], "units of it are chosen by index")
    for i, (own, chosen) in enumerate(zip(x, index, strict=True)):
        if i != position and find(own).size == find(chosen).size:
            unify(own, chosen)
        elif i != position:
            fix(own, "a part of it is taken")
    ctx.returns(call, index)


@rule_of("index_select", "take_along_dim", "scatter", "index_add")
def _index_select(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    position = axis(call, len(x))
    fix(x[position], "units of it are chosen by index")
    if call.name == "index_select":
        x[position] = ctx.of(call.arguments["index"])[0]
        ctx.returns(call, x)
        return
    raise MismatchError("an index of all dimensions")


@rule_of("index")
def _index(ctx: Inference, call: Call) -> None:
    x, indices = ctx.of(call.arguments["self"]), cast(tuple[Argument, ...], call.arguments["indices"])
    used = [i for i, index in enumerate(indices) if index is not None]
    for i in used:
        fix(x[i], "units of it are chosen by index")
    if used != list(range(used[0], used[0] + len(used))):
        raise MismatchError("indices that are apart")
    chosen = ctx.broadcast([ctx.of(indices[i]) for i in used])
    ctx.returns(call, [*x[: used[0]], *chosen, *x[used[-1] + 1 :]])


@rule_of("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad2d")
def _pad(ctx: Inference, call: Call) -> None:
    x = ctx.of(call.arguments["self"])
    amounts = cast(tuple[int, ...], call.arguments.get("pad", call.arguments.get("padding")))
    for i in range(len(amounts) // 2):
        before, after = amounts[2 * i : 2 * i + 2]
        position = len(x) - 1 - i
        if before < 0 or after < 0:
            fix(x[position], "cut")
            x[position] = fixed(ctx.shape(call.outputs[0])[position], "cut")
        elif all(own.fixed for own in singles(x[position])):
            x[position] = fixed(ctx.shape(call.outputs[0])[position], "padded")
        elif before or after:
            x[position] = concatenation([fixed(before, "padding"), x[position], fixed(after, "padding")])
    ctx.returns(call, x)


@rule_of("pixel_shuffle")
def _pixel_shuffle(ctx: Inference, call: Call) -> None:
    x, factor = ctx.of(call.arguments["self"]), cast(int, call.arguments["upscale_factor"])
    channels, square = divide(x[-3], [find(x[-3]).size // factor**2, factor**2])
    fix(square, "pixels")
    ctx.returns(call, [*x[:-3], channels, *extents(ctx, call, -2)])


@rule_of("pixel_unshuffle")
def _pixel_unshuffle(ctx: Inference, call: Call) -> None:
    x, factor = ctx.of(call.arguments["self"]), cast(int, call.arguments["downscale_factor"])
    ctx.returns(call, [*x[:-3], product([x[-3], fixed(factor**2, "pixels")]), *extents(ctx, call, -2)])


@rule_of("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(ctx: Inference, call: Call) -> None:
    x, n = ctx.of(call.arguments["self"]), cast(int, call.arguments["groups"])
    groups, units = divide(x[1], [n, find(x[1]).size // n])
    fix(groups, "groups of a shuffle")
    x[1] = product([units, groups])
    ctx.returns(call, x)
