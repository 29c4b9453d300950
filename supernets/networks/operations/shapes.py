"""Operations that change shapes."""

from __future__ import annotations

from typing import cast

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import (
    Dimension,
    MismatchError,
    divide,
    find,
    fix,
    fixed,
    product,
    singles,
    unify,
)
from supernets.networks.capture.inference import Inference, reshaped
from supernets.networks.capture.program import Argument, Call
from supernets.networks.lowering.state import Lowering
from supernets.networks.operations.elementwise import elementwise
from supernets.networks.operations.registry import ResultDims, ResultValues, axes, axis, lowers, rule_of


@rule_of(
    "view",
    "reshape",
    "_unsafe_view",
    "_reshape_copy",
    "flatten",
    "view_as",
    "reshape_as",
    neutral=("size", "shape", "start_dim", "end_dim"),
)
def _view_dims(ctx: Inference, call: Call) -> ResultDims:
    if call.op == "aten.view.dtype":
        raise MismatchError("a view as another type")
    out = reshaped(ctx.tensor_dims(call.arguments["self"]), ctx.shape(call.outputs[0]))
    for name in ("size", "shape"):
        if name in call.arguments:
            ctx.depends(**{name: tuple(out)})
    if (expected := ctx.optional_dims(call.arguments.get("other"))) is not None:
        out = [unify(a, b) for a, b in zip(out, expected, strict=True)]
    return out


@rule_of("unflatten")
def _unflatten_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    position, n = axis(call, len(x)), len(cast(tuple[int, ...], call.arguments["sizes"]))
    sizes = ctx.shape(call.outputs[0])[position : position + n]
    parts = divide(x[position], sizes)
    ctx.depends(sizes=tuple(parts))
    return [*x[:position], *parts, *x[position + 1 :]]


@lowers(
    "view",
    "reshape",
    "_unsafe_view",
    "flatten",
    "unflatten",
    "view_as",
    "reshape_as",
    neutral=("size", "shape", "start_dim", "end_dim", "dim", "sizes", "other"),
)
def _lower_reshape(low: Lowering, call: Call) -> ResultValues:
    return low.reshaped(call, low.tensor(call.arguments["self"]))


def _squeezable(call: Call, rank: int) -> list[int]:
    """The positions that a call squeezes where their size is 1."""
    argument = call.arguments.get("dim")
    return [] if argument == () else axes(argument, rank)


@rule_of("squeeze")
def _squeeze_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    chosen = _squeezable(call, len(x))
    for position in chosen:
        fix(x[position], "it would be squeezed where its size is 1")
    squeezed = {i for i in chosen if find(x[i]).size == 1}
    return [dimension for i, dimension in enumerate(x) if i not in squeezed]


@lowers("squeeze")
def _lower_squeeze(low: Lowering, call: Call) -> ResultValues:
    x, shape = low.tensor(call.arguments["self"]), low.shape(call.arguments["self"])
    squeezed = [i for i in _squeezable(call, len(shape)) if shape[i] == 1]
    return low.add("Squeeze", x, low.numbers(squeezed)) if squeezed else low.add("Identity", x)


@rule_of("unsqueeze")
def _unsqueeze_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    x.insert(axis(call, len(x) + 1), fixed(1, "a size of 1"))
    return x


@lowers("unsqueeze")
def _lower_unsqueeze(low: Lowering, call: Call) -> ResultValues:
    axis = cast(int, call.arguments["dim"]) % len(low.result_shape(call))
    return low.add("Unsqueeze", low.tensor(call.arguments["self"]), low.numbers([axis]))


_PERMUTATIONS = ("permute", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", "movedim", "moveaxis")


def _order(call: Call, rank: int) -> list[int]:
    """The position before a permutation of each dimension of its result."""
    a, order = call.arguments, list(range(rank))
    match call.name:
        case "permute":
            return axes(a["dims"], rank)
        case "t" | "numpy_T":
            return order[::-1]
        case "movedim" | "moveaxis":
            source, target = (axes(a[name], rank) for name in ("source", "destination"))
            moved = dict(zip(target, source, strict=True))
            unmoved = (i for i in order if i not in source)
            return [moved[i] if i in moved else next(unmoved) for i in order]
        case "mT":
            i, j = rank - 2, rank - 1
        case _:
            i, j = (cast(int, a[name]) % rank for name in ("dim0", "axis0", "dim1", "axis1") if name in a)
    order[i], order[j] = order[j], order[i]
    return order


@rule_of(*_PERMUTATIONS)
def _permute_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    return [x[i] for i in _order(call, len(x))]


@lowers(*_PERMUTATIONS)
def _lower_permute(low: Lowering, call: Call) -> ResultValues:
    x = call.arguments["self"]
    return low.add("Transpose", low.tensor(x), perm=tuple(_order(call, low.rank(x))))


@rule_of("expand", "broadcast_to", neutral=("size",))
def _expand_dims(ctx: Inference, call: Call) -> ResultDims:
    x, sizes = ctx.tensor_dims(call.arguments["self"]), ctx.shape(call.outputs[0])
    x = [fixed(1, "a size of 1") for _ in range(len(sizes) - len(x))] + x
    out = []
    for i, (dimension, size) in enumerate(zip(x, sizes, strict=True)):
        if find(dimension).size != size:
            dimension = ctx.batch if i == 0 and size == ctx.program.batch else fixed(size, "expanded")
        out.append(dimension)
    ctx.depends(size=tuple(out))
    return out


@elementwise("expand_as")
def _lower_expand_as(low: Lowering, call: Call) -> ResultValues:
    x, template = low.tensor(call.arguments["self"]), low.tensor(call.arguments["other"])
    return low.add("Expand", x, low.add("Shape", template))


@lowers("expand", "broadcast_to")
def _lower_expand(low: Lowering, call: Call) -> ResultValues:
    sizes = cast(tuple[Argument, ...], call.arguments["size"])
    parts = [low.size(1 if size == -1 else size) for size in sizes]  # a size of 1 gives way
    shape = low.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
    return low.add("Expand", low.tensor(call.arguments["self"]), shape)


@rule_of("repeat", "tile")
def _repeat_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    times = list(cast(tuple[int, ...], call.arguments["repeats" if call.name == "repeat" else "dims"]))
    times = [1] * (len(x) - len(times)) + times
    x = [fixed(1, "a size of 1") for _ in range(len(times) - len(x))] + x
    counts: list[Dimension | int] = [
        ctx.batch
        if not i and n == ctx.program.batch and all(single is not ctx.batch for single in singles(dimension))
        else n
        for i, (dimension, n) in enumerate(zip(x, times, strict=True))
    ]
    if call.name == "repeat":
        ctx.depends(repeats=tuple(counts))
    return [
        dimension if n == 1 else product([n if isinstance(n, Dimension) else fixed(n, "repeated"), dimension])
        for dimension, n in zip(x, counts, strict=True)
    ]


@lowers("repeat", "tile")
def _lower_repeat(low: Lowering, call: Call) -> ResultValues:
    repeats = cast(tuple[Argument, ...], call.arguments["repeats" if call.name == "repeat" else "dims"])
    x = low.tensor(call.arguments["self"])
    n_missing = len(repeats) - low.rank(call.arguments["self"])
    if n_missing < 0:
        repeats = (*(1 for _ in range(-n_missing)), *repeats)
    elif n_missing:
        x = low.add("Unsqueeze", x, low.numbers(list(range(n_missing))))
    return low.add("Tile", x, low.add("Concat", *[low.size(repeat) for repeat in repeats], axis=0))


@rule_of("repeat_interleave", neutral=("output_size",))
def _repeat_interleave_dims(ctx: Inference, call: Call) -> ResultDims:
    x, n = ctx.tensor_dims(call.arguments["self"]), cast(int, call.arguments["repeats"])
    position = axis(call, len(x))
    x[position] = product([x[position], fixed(n, "repeated")])
    return x


@lowers("repeat_interleave", neutral=("output_size",))
def _lower_repeat_interleave(low: Lowering, call: Call) -> ResultValues:
    repeats, rank = call.arguments["repeats"], low.rank(call.arguments["self"])
    if not isinstance(repeats, int) or call.arguments["dim"] is None:
        raise LoweringError("there is no rule for units that are repeated differently often")
    axis = cast(int, call.arguments["dim"]) % rank
    column = low.add("Unsqueeze", low.tensor(call.arguments["self"]), low.numbers([axis + 1]))
    times = [repeats if i == axis + 1 else 1 for i in range(rank + 1)]
    return low.reshaped(call, low.add("Tile", column, low.numbers(times)))


@rule_of("new_zeros", "new_ones", "new_full", "new_empty", neutral=("self", "size"))
def _new_dims(ctx: Inference, call: Call) -> ResultDims:
    sizes = ctx.shape(call.outputs[0])
    out = [ctx.batch if not i and n == ctx.program.batch else fixed(n, "created") for i, n in enumerate(sizes)]
    ctx.depends(size=tuple(out))
    return out
