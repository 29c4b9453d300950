"""Lowering of operations that change shapes, join, divide and choose parts."""

from __future__ import annotations

from typing import cast

import numpy as np

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


@lowers("repeat")
def _repeat(low: Lowering, call: Call) -> None:
    repeats = cast(tuple[Argument, ...], call.arguments["repeats"])
    x = low.tensor(call.arguments["self"])
    missing = len(repeats) - low.rank(call.arguments["self"])
    if missing:
        x = low.one("Unsqueeze", x, low.numbers(list(range(missing))))
    low.returns(call, low.one("Tile", x, low.one("Concat", *[low.size(one) for one in repeats], axis=0)))


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
    axis = cast(int, call.arguments["dim"])
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
    low.returns(
        call, low.one("Gather", low.tensor(a["self"]), low.graph.constant(np.array(index, dtype=np.int64)), axis=axis)
    )


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


@lowers("gather")
def _gather(low: Lowering, call: Call) -> None:
    a = call.arguments
    low.returns(
        call, low.one("GatherElements", low.tensor(a["self"]), low.tensor(a["index"]), axis=cast(int, a["dim"]))
    )


@lowers("pad", "constant_pad_nd")
def _pad(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("mode", "constant") != "constant":
        raise LoweringError(f"there is no rule for pad(mode={a['mode']!r})")
    rank, amounts = low.rank(a["self"]), cast(tuple[int, ...], a["pad"])
    before, after = [0] * rank, [0] * rank
    for i in range(len(amounts) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    value = low.scalar(float(cast(float, a.get("value") or 0.0)))
    low.returns(call, low.one("Pad", low.tensor(a["self"]), low.numbers([*before, *after]), value))


@lowers("pixel_shuffle")
def _pixel_shuffle(low: Lowering, call: Call) -> None:
    factor = cast(int, call.arguments["upscale_factor"])
    low.returns(call, low.one("DepthToSpace", low.tensor(call.arguments["self"]), blocksize=factor, mode="CRD"))


@lowers("glu")
def _glu(low: Lowering, call: Call) -> None:
    axis = cast(int, call.arguments["dim"])
    a, b = low.emit("Split", [low.tensor(call.arguments["self"])], {"axis": axis, "num_outputs": 2}, n=2)
    low.returns(call, low.one("Mul", a, low.one("Sigmoid", b)))
