"""Lowering of operations that change shapes, join, divide and choose parts."""

from __future__ import annotations

from typing import cast

from supernets.capture.lowering.state import Lowering, ints, lowers
from supernets.capture.program import Argument, Call, Ref
from supernets.errors import LoweringError


@lowers("view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as")
def _reshape(low: Lowering, call: Call) -> None:
    low.returns(call, low.reshaped(call, low.tensor(call.arguments["self"])))


@lowers("squeeze")
def _squeeze(low: Lowering, call: Call) -> None:
    source, shape = low.tensor(call.arguments["self"]), low.shape(cast(Ref, call.arguments["self"]).name)
    given = call.arguments.get("dim")
    chosen = range(len(shape)) if given is None else [d % len(shape) for d in ints(given, 1)]
    axes = [i for i in chosen if shape[i] == 1]
    low.returns(call, low.one("Squeeze", source, low.numbers(axes)) if axes else low.one("Identity", source))


@lowers("unsqueeze")
def _unsqueeze(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"]) % len(low.shape(call.outputs[0]))
    low.returns(call, low.one("Unsqueeze", low.tensor(call.arguments["self"]), low.numbers([axis])))


@lowers("permute", "transpose", "t", "numpy_T", "mT", "swapaxes")
def _permute(low: Lowering, call: Call) -> None:
    a = call.arguments
    rank = low.rank(a["self"])
    order = list(range(rank))
    if call.name == "permute":
        order = [d % rank for d in cast(tuple[int, ...], a["dims"])]
    elif call.name in ("t", "numpy_T"):
        order.reverse()
    else:
        pair = [value for name, value in a.items() if name != "self"] or [-1, -2]
        i, j = (cast(int, d) % rank for d in pair)
        order[i], order[j] = order[j], order[i]
    low.returns(call, low.one("Transpose", low.tensor(a["self"]), perm=tuple(order)))


@lowers("movedim", "moveaxis")
def _movedim(low: Lowering, call: Call) -> None:
    a = call.arguments
    rank = low.rank(a["self"])
    source, target = ([d % rank for d in ints(a[name], 1)] for name in ("source", "destination"))
    moved = dict(zip(target, source, strict=True))
    rest = iter(i for i in range(rank) if i not in source)
    order = tuple(moved[i] if i in moved else next(rest) for i in range(rank))
    low.returns(call, low.one("Transpose", low.tensor(a["self"]), perm=order))


@lowers("expand", "broadcast_to", "expand_as")
def _expand(low: Lowering, call: Call) -> None:
    if call.name == "expand_as":
        low.returns(
            call,
            low.one(
                "Expand", low.tensor(call.arguments["self"]), low.one("Shape", low.tensor(call.arguments["other"]))
            ),
        )
        return
    sizes = cast(tuple[Argument, ...], call.arguments["size"])
    parts = [low.size(size) for size in sizes]
    shape = low.one("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
    low.returns(call, low.one("Expand", low.tensor(call.arguments["self"]), shape))


@lowers("repeat", "tile")
def _repeat(low: Lowering, call: Call) -> None:
    repeats = cast(tuple[Argument, ...], call.arguments["repeats" if call.name == "repeat" else "dims"])
    x = low.tensor(call.arguments["self"])
    missing = len(repeats) - low.rank(call.arguments["self"])
    if missing < 0:
        repeats = (*(1 for _ in range(-missing)), *repeats)
    elif missing:
        x = low.one("Unsqueeze", x, low.numbers(list(range(missing))))
    low.returns(call, low.one("Tile", x, low.one("Concat", *[low.size(one) for one in repeats], axis=0)))


@lowers("repeat_interleave")
def _repeat_interleave(low: Lowering, call: Call) -> None:
    repeats, rank = call.arguments["repeats"], low.rank(call.arguments["self"])
    if not isinstance(repeats, int) or call.arguments["dim"] is None:
        raise LoweringError("there is no rule for units that are repeated differently often")
    axis = cast(int, call.arguments["dim"]) % rank
    column = low.one("Unsqueeze", low.tensor(call.arguments["self"]), low.numbers([axis + 1]))
    times = [repeats if i == axis + 1 else 1 for i in range(rank + 1)]
    low.returns(call, low.reshaped(call, low.one("Tile", column, low.numbers(times))))


@lowers("cat", "concat")
def _concatenate(low: Lowering, call: Call) -> None:
    parts = [low.tensor(one) for one in cast(tuple[Argument, ...], call.arguments["tensors"])]
    low.returns(call, low.one("Concat", *parts, axis=cast(int, call.arguments["dim"])))


@lowers("stack")
def _stack(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"]) % len(low.shape(call.outputs[0]))
    parts = [low.tensor(one) for one in cast(tuple[Argument, ...], call.arguments["tensors"])]
    low.returns(
        call, low.one("Concat", *[low.one("Unsqueeze", part, low.numbers([axis])) for part in parts], axis=axis)
    )


@lowers("split_with_sizes", "split", "chunk", "tensor_split")
def _split(low: Lowering, call: Call) -> None:
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


@lowers("unbind")
def _unbind(low: Lowering, call: Call) -> None:
    axis, n = cast(int, call.arguments["dim"]), len(call.outputs)
    parts = low.emit("Split", [low.tensor(call.arguments["self"])], {"axis": axis, "num_outputs": n}, n=n)
    low.returns(call, *[low.one("Squeeze", part, low.numbers([axis])) for part in parts])


@lowers("select")
def _select(low: Lowering, call: Call) -> None:
    a = call.arguments
    axis, index = cast(int, a["dim"]), cast(int, a["index"])
    taken = low.one("Gather", low.tensor(a["self"]), low.numbers([index]), axis=axis)
    low.returns(call, low.one("Squeeze", taken, low.numbers([axis])))


@lowers("slice")
def _slice(low: Lowering, call: Call) -> None:
    a = call.arguments
    start, end = cast(int | None, a["start"]) or 0, cast(int | None, a["end"])
    bounds = [start, 2**62 if end is None else end]
    if any(not isinstance(bound, int) for bound in bounds):
        raise LoweringError("there is no rule for a slice of the batch")
    axes, steps = low.numbers([cast(int, a["dim"])]), low.numbers([cast(int, a["step"])])
    low.returns(
        call, low.one("Slice", low.tensor(a["self"]), low.numbers([bounds[0]]), low.numbers([bounds[1]]), axes, steps)
    )


@lowers("slice_scatter", "select_scatter")
def _scattered(low: Lowering, call: Call) -> None:
    """A tensor with a part replaced: what lies before it, the new part, and what lies after it."""
    a = call.arguments
    x, part, shape = low.tensor(a["self"]), low.tensor(a["src"]), low.shape(cast(Ref, a["self"]).name)
    axis = cast(int, a["dim"]) % len(shape)
    size = shape[axis]
    if call.name == "select_scatter":
        start = cast(int, a["index"]) % size
        end, part = start + 1, low.one("Unsqueeze", part, low.numbers([axis]))
    else:
        start, end, _ = slice(cast(int | None, a["start"]), cast(int | None, a["end"])).indices(size)
    if a.get("step", 1) != 1 or axis in low.program.dynamic.get(call.outputs[0], ()):
        raise LoweringError("there is no rule for a change of some units of a slice, or of the batch")
    parts = [part]
    if start:
        parts.insert(0, low.one("Slice", x, low.numbers([0]), low.numbers([start]), low.numbers([axis])))
    if end < size:
        parts.append(low.one("Slice", x, low.numbers([end]), low.numbers([size]), low.numbers([axis])))
    low.returns(call, low.one("Concat", *parts, axis=axis) if len(parts) > 1 else low.one("Identity", part))


@lowers("copy", "fill", "zero")
def _filled(low: Lowering, call: Call) -> None:
    """A value in the shape of another one."""
    a = call.arguments
    value = a.get("src", a.get("value", 0.0))
    if low.dtype(value) not in ("", low.typed(call.outputs[0])):
        raise LoweringError("there is no rule for a change in place by a value of another type")
    x, own = low.tensor(a["self"]), low.operand(value, integer=low.typed(call.outputs[0]) == "int64")
    low.returns(call, low.one("Expand", own, low.one("Shape", x)))


@lowers("roll")
def _roll(low: Lowering, call: Call) -> None:
    x, shape = low.tensor(call.arguments["self"]), low.shape(cast(Ref, call.arguments["self"]).name)
    dims = cast(tuple[int, ...], call.arguments["dims"])
    for shift, dim in zip(ints(call.arguments["shifts"], len(dims)), dims, strict=True):
        size = shape[dim]
        cut = (size - shift) % size
        if cut:
            parts = low.emit("Split", [x, low.numbers([cut, size - cut])], {"axis": dim}, n=2)
            x = low.one("Concat", parts[1], parts[0], axis=dim)
    low.returns(call, low.one("Identity", x))


@lowers("flip")
def _flip(low: Lowering, call: Call) -> None:
    dims = list(cast(tuple[int, ...], call.arguments["dims"]))
    n = len(dims)
    low.returns(call, low.one(
        "Slice", low.tensor(call.arguments["self"]), low.numbers([-1] * n), low.numbers([-(2**62)] * n), low.numbers(dims),
        low.numbers([-1] * n),
    ))  # fmt: skip


@lowers("index")
def _index(low: Lowering, call: Call) -> None:
    indices = cast(tuple[Argument, ...], call.arguments["indices"])
    used = [(i, index) for i, index in enumerate(indices) if index is not None]
    if len(used) != 1 or low.dtype(used[0][1]) != "int64":
        raise LoweringError("there is no rule for an index in several dimensions")
    axis, index = used[0]
    low.returns(call, low.one("Gather", low.tensor(call.arguments["self"]), low.tensor(index), axis=axis))


@lowers("index_select")
def _index_select(low: Lowering, call: Call) -> None:
    a = call.arguments
    low.returns(
        call,
        low.one(
            "Gather", low.tensor(a["self"]), low.tensor(a["index"]), axis=cast(int, a["dim"]) % low.rank(a["self"])
        ),
    )


@lowers("gather")
def _gather(low: Lowering, call: Call) -> None:
    a = call.arguments
    low.returns(
        call, low.one("GatherElements", low.tensor(a["self"]), low.tensor(a["index"]), axis=cast(int, a["dim"]))
    )


_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
_PADDINGS = {"reflection": "reflect", "replication": "replicate"}


@lowers("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad2d")
def _pad(low: Lowering, call: Call) -> None:
    a = call.arguments
    mode = a.get("mode", next((mode for name, mode in _PADDINGS.items() if call.name.startswith(name)), "constant"))
    if mode not in _MODES:
        raise LoweringError(f"there is no rule for pad(mode={mode!r})")
    rank, amounts = low.rank(a["self"]), cast(tuple[int, ...], a.get("pad", a.get("padding")))
    before, after = [0] * rank, [0] * rank
    for i in range(len(amounts) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    pads = low.numbers([*before, *after])
    if mode == "constant" and not a.get("value"):
        low.returns(call, low.one("Pad", low.tensor(a["self"]), pads))
        return
    value = low.scalar(float(cast(float, a.get("value") or 0.0)))
    low.returns(call, low.one("Pad", low.tensor(a["self"]), pads, value, mode=_MODES[mode]))


@lowers("pixel_shuffle")
def _pixel_shuffle(low: Lowering, call: Call) -> None:
    factor = cast(int, call.arguments["upscale_factor"])
    low.returns(call, low.one("DepthToSpace", low.tensor(call.arguments["self"]), blocksize=factor, mode="CRD"))


@lowers("pixel_unshuffle")
def _pixel_unshuffle(low: Lowering, call: Call) -> None:
    """Channels of the result are ordered by channel first, and SpaceToDepth's by pixel."""
    factor, (_, channels, height, width) = cast(int, call.arguments["downscale_factor"]), low.shape(call.outputs[0])
    x = low.one("SpaceToDepth", low.tensor(call.arguments["self"]), blocksize=factor)
    x = low.one("Reshape", x, low.numbers([0, factor**2, channels // factor**2, height, width]))
    x = low.one("Transpose", x, perm=(0, 2, 1, 3, 4))
    low.returns(call, low.one("Reshape", x, low.numbers([0, channels, height, width])))


@lowers("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(low: Lowering, call: Call) -> None:
    groups, shape = cast(int, call.arguments["groups"]), low.shape(call.outputs[0])
    x = low.one("Reshape", low.tensor(call.arguments["self"]), low.numbers([0, groups, -1, *shape[2:]]))
    x = low.one("Transpose", x, perm=(0, 2, 1, *range(3, len(shape) + 1)))
    low.returns(call, low.one("Reshape", x, low.numbers([0, *shape[1:]])))


@lowers("glu")
def _glu(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"])
    a, b = low.emit("Split", [low.tensor(call.arguments["self"])], {"axis": axis, "num_outputs": 2}, n=2)
    low.returns(call, low.one("Mul", a, low.one("Sigmoid", b)))
