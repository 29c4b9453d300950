"""Operations that choose units of a dimension, replace some, or depend on their order."""

from __future__ import annotations

from typing import cast

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import (
    Dimension,
    MismatchError,
    concatenation,
    find,
    fix,
    fixed,
    singles,
    split,
    unify,
)
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Argument, Call, Ref
from supernets.networks.lowering.state import Lowering, ints
from supernets.networks.operations.elementwise import typed_operand
from supernets.networks.operations.registry import ResultDims, ResultValues, axes, axis, lowers, rule_of


@rule_of(
    "tril",
    "triu",
    "cumsum",
    "flip",
    "roll",
    "sort",
    "argsort",
    "topk",
    neutral=("diagonal", "shifts", "descending", "stable", "largest", "sorted"),
)
def _ordered_dims(ctx: Inference, call: Call) -> ResultDims:
    """Operations that depend on the order of the units."""
    x = ctx.tensor_dims(call.arguments["self"])
    if call.name in ("tril", "triu"):
        positions = [len(x) - 2, len(x) - 1]
    else:
        argument = call.arguments.get("dims", call.arguments.get("dim"))
        positions = axes(argument, len(x))
    for position in positions:
        fix(x[position], f"{call.name} depends on the order")
    if call.name == "topk":
        x[positions[0]] = fixed(cast(int, call.arguments["k"]), "topk")
    return tuple([x] * len(call.outputs))


@lowers("tril", "triu")
def _lower_triangle(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    if low.result_type(call) != "float32":
        raise LoweringError(f"there is no rule for {call.name} of {low.result_type(call)}")
    diagonal = low.whole(cast(int, a["diagonal"]))
    return low.add("Trilu", low.tensor(a["self"]), diagonal, upper=int(call.name == "triu"))


@lowers("topk", "sort", "argsort", neutral=("stable",))
def _lower_sorted(low: Lowering, call: Call) -> ResultValues:
    """The largest or smallest units in order, which of equal ones begin with the first."""
    a = call.arguments
    shape = low.shape(a["self"])
    axis = cast(int, a["dim"]) % max(len(shape), 1)
    if axis in low.dynamic(a["self"]) or low.dtype(a["self"]) not in ("float32", "int64"):
        raise LoweringError(f"there is no rule for {call.name} over the batch, or of {low.dtype(a['self'])}")
    if call.name == "topk":
        n, is_descending, is_sorted = cast(int, a["k"]), a["largest"], a["sorted"]
    else:
        n, is_descending, is_sorted = shape[axis], a["descending"], True
    options = {"largest": int(bool(is_descending)), "sorted": int(bool(is_sorted))}
    values, positions = low.add_many("TopK", [low.tensor(a["self"]), low.numbers([n])], 2, axis=axis, **options)
    return positions if call.name == "argsort" else (values, positions)


@lowers("cumsum", neutral=("dtype",))
def _lower_cumulated(low: Lowering, call: Call) -> ResultValues:
    x = typed_operand(low, call.arguments["self"], low.result_type(call))
    return low.add("CumSum", x, low.whole(cast(int, call.arguments["dim"])))


@lowers("roll")
def _lower_roll(low: Lowering, call: Call) -> ResultValues:
    x, shape = low.tensor(call.arguments["self"]), low.shape(call.arguments["self"])
    dims = cast(tuple[int, ...], call.arguments["dims"])
    dynamic = low.program.dynamic.get(call.outputs[0], ())
    if not dims or any(dim % len(shape) in dynamic for dim in dims):
        raise LoweringError("there is no rule for a roll over all dimensions, or over the batch")
    for shift, dim in zip(ints(call.arguments["shifts"], len(dims)), dims, strict=True):
        size = shape[dim]
        boundary = (size - shift) % size
        if boundary:
            parts = low.add_many("Split", [x, low.numbers([boundary, size - boundary])], 2, axis=dim)
            x = low.add("Concat", parts[1], parts[0], axis=dim)
    return low.add("Identity", x)


@lowers("flip")
def _lower_flip(low: Lowering, call: Call) -> ResultValues:
    x, dims = low.tensor(call.arguments["self"]), cast(tuple[int, ...], call.arguments["dims"])
    backwards, beyond_the_first = [-1] * len(dims), [-(2**62)] * len(dims)
    return low.add("Slice", x, *map(low.numbers, (backwards, beyond_the_first, dims, backwards)))


@rule_of("select", neutral=("index",))
def _select_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    position = axis(call, len(x))
    fix(x[position], "one unit of it is selected")
    return [dimension for i, dimension in enumerate(x) if i != position]


@lowers("select")
def _lower_select(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    x, x_name = low.tensor(a["self"]), cast(Ref, a["self"]).name
    axis, index = cast(int, a["dim"]), cast(int, a["index"])
    n_readers = sum(name == x_name for reader in low.program.calls for name in reader.reads())
    if low.declared or n_readers > 1:  # of several selections, runtimes make one Split
        selected = low.add("Gather", x, low.numbers([index]), axis=axis)
        return low.add("Squeeze", selected, low.numbers([axis]))
    return low.add("Gather", x, low.whole(index), axis=axis)


@rule_of("slice", "narrow", neutral=("end", "length"))
def _slice_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    position = axis(call, len(x))
    x[position] = _part(ctx, call, x[position], ctx.shape(call.outputs[0])[position])
    return x


def _part(ctx: Inference, call: Call, dimension: Dimension, n_taken: int) -> Dimension:
    """The part of a dimension that a slice takes, whose bounds follow the sizes."""
    size = find(dimension).size
    start, step = cast(int | None, call.arguments["start"]) or 0, call.arguments.get("step", 1)
    if n_taken == size and step == 1:
        if "end" in call.arguments:
            ctx.depends(end=2**62)
        else:
            ctx.depends(length=dimension)
        return dimension
    if step != 1 or find(dimension).fixed or all(single.fixed for single in singles(dimension)):
        fix(dimension, "a part of it is taken")
        return fixed(n_taken, "a part of a fixed size")
    first = start % size if start < 0 else min(start, size)
    sizes = [first, n_taken, size - first - n_taken]
    pieces = iter(split(dimension, [n for n in sizes if n]))
    before, piece, _ = (next(pieces) if n else fixed(0, "empty") for n in sizes)
    if "end" in call.arguments:
        ctx.depends(start=before, end=concatenation([before, piece]) if sizes[0] else piece)
    else:
        ctx.depends(start=before, length=piece)
    return piece


@lowers("slice", "narrow")
def _lower_slice(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    start = a["start"] or 0
    end = a["end"] if call.name == "slice" else cast(int, start) + cast(int, a["length"])
    bounds = (start, 2**62 if end is None else end)
    if not all(isinstance(bound, int) for bound in bounds):
        raise LoweringError("there is no rule for a slice of the batch")
    numbers = (a["dim"], a.get("step", 1), *bounds)
    dims, steps, starts, ends = (low.numbers([cast(int, number)]) for number in numbers)
    return low.add("Slice", low.tensor(a["self"]), starts, ends, dims, steps)


@rule_of("slice_scatter", neutral=("end",))
def _slice_scatter_dims(ctx: Inference, call: Call) -> ResultDims:
    x, part = ctx.tensor_dims(call.arguments["self"]), ctx.tensor_dims(call.arguments["src"])
    position = axis(call, len(x))
    unify(_part(ctx, call, x[position], find(part[position]).size), part[position])
    return [dimension if i == position else unify(dimension, part[i]) for i, dimension in enumerate(x)]


@rule_of("select_scatter", neutral=("index",))
def _select_scatter_dims(ctx: Inference, call: Call) -> ResultDims:
    x, part = ctx.tensor_dims(call.arguments["self"]), ctx.tensor_dims(call.arguments["src"])
    position = axis(call, len(x))
    fix(x[position], "one unit of it is selected")
    part.insert(position, x[position])
    return [unify(a, b) for a, b in zip(x, part, strict=True)]


@lowers("slice_scatter", "select_scatter")
def _lower_scattered(low: Lowering, call: Call) -> ResultValues:
    """A tensor with a part replaced: what lies before it, the new part, and what lies after it."""
    a = call.arguments
    x, part, shape = low.tensor(a["self"]), low.tensor(a["src"]), low.shape(a["self"])
    axis = cast(int, a["dim"]) % len(shape)
    size = shape[axis]
    if call.name == "select_scatter":
        start = cast(int, a["index"]) % size
        end, part = start + 1, low.add("Unsqueeze", part, low.numbers([axis]))
    else:
        start, end, _ = slice(cast(int | None, a["start"]), cast(int | None, a["end"])).indices(size)
    if a.get("step", 1) != 1 or axis in low.program.dynamic.get(call.outputs[0], ()):
        raise LoweringError("there is no rule for a change of some units of a slice, or of the batch")
    parts = [part]
    if start:
        parts.insert(0, low.add("Slice", x, low.numbers([0]), low.numbers([start]), low.numbers([axis])))
    if end < size:
        parts.append(low.add("Slice", x, low.numbers([end]), low.numbers([size]), low.numbers([axis])))
    return low.add("Concat", *parts, axis=axis) if len(parts) > 1 else low.add("Identity", part)


@rule_of("gather")
def _gather_dims(ctx: Inference, call: Call) -> ResultDims:
    x, index = ctx.tensor_dims(call.arguments["self"]), ctx.tensor_dims(call.arguments["index"])
    position = axis(call, len(x))
    fix(x[position], "units of it are chosen by index")
    for i, (dimension, chosen) in enumerate(zip(x, index, strict=True)):
        if i != position and find(dimension).size == find(chosen).size:
            unify(dimension, chosen)
        elif i != position:
            fix(dimension, "a part of it is taken")
    return index


@lowers("gather")
def _lower_gather(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    return low.add("GatherElements", low.tensor(a["self"]), low.tensor(a["index"]), axis=cast(int, a["dim"]))


@rule_of("index_select")
def _index_select_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    position = axis(call, len(x))
    fix(x[position], "units of it are chosen by index")
    x[position] = ctx.tensor_dims(call.arguments["index"])[0]
    return x


@rule_of("take_along_dim", "scatter", "index_add")
def _by_index_dims(ctx: Inference, call: Call) -> ResultDims:
    raise MismatchError("an index of all dimensions")


@lowers("index_select")
def _lower_index_select(low: Lowering, call: Call) -> ResultValues:
    x, index = call.arguments["self"], call.arguments["index"]
    return low.add("Gather", low.tensor(x), low.tensor(index), axis=axis(call, low.rank(x)))


@rule_of("index")
def _index_dims(ctx: Inference, call: Call) -> ResultDims:
    x, indices = ctx.tensor_dims(call.arguments["self"]), cast(tuple[Argument, ...], call.arguments["indices"])
    used = [i for i, index in enumerate(indices) if index is not None]
    if any(ctx.program.values[cast(Ref, indices[i]).name].dtype == "bool" for i in used):
        raise MismatchError("an index of truth values")
    for i in used:
        fix(x[i], "units of it are chosen by index")
    if used != list(range(used[0], used[0] + len(used))):
        raise MismatchError("indices that are apart")
    chosen = ctx.broadcast([ctx.tensor_dims(indices[i]) for i in used])
    return [*x[: used[0]], *chosen, *x[used[-1] + 1 :]]


@lowers("index")
def _lower_index(low: Lowering, call: Call) -> ResultValues:
    indices = cast(tuple[Argument, ...], call.arguments["indices"])
    used = [(i, index) for i, index in enumerate(indices) if index is not None]
    if len(used) != 1 or low.dtype(used[0][1]) != "int64":
        raise LoweringError("there is no rule for an index in several dimensions")
    axis, index = used[0]
    return low.add("Gather", low.tensor(call.arguments["self"]), low.tensor(index), axis=axis)
