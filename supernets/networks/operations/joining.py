"""Operations that join and divide tensors."""

from __future__ import annotations

from typing import cast

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import concatenation, find, fix, fixed, split, unify
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Argument, Call, Ref
from supernets.networks.lowering.state import Lowering
from supernets.networks.operations.elementwise import typed_operand
from supernets.networks.operations.registry import ResultDims, ResultValues, axis, lowers, rule_of


@rule_of("cat", "concat")
def _cat_dims(ctx: Inference, call: Call) -> ResultDims:
    parts = [ctx.tensor_dims(part) for part in cast(tuple[Argument, ...], call.arguments["tensors"])]
    parts = [part for part in parts if len(part) > 1 or find(part[0]).size]
    position = axis(call, len(parts[0]))
    out = list(parts[0])
    for part in parts[1:]:
        out = [dimension if i == position else unify(dimension, part[i]) for i, dimension in enumerate(out)]
    out[position] = concatenation([part[position] for part in parts])
    return out


@lowers("cat", "concat")
def _lower_concatenate(low: Lowering, call: Call) -> ResultValues:
    tensors = [tensor for tensor in cast(tuple[Ref, ...], call.arguments["tensors"]) if low.shape(tensor) != (0,)]
    parts = [typed_operand(low, tensor, low.result_type(call)) for tensor in tensors]
    return low.add("Concat", *parts, axis=cast(int, call.arguments["dim"]))


@rule_of("stack")
def _stack_dims(ctx: Inference, call: Call) -> ResultDims:
    parts = [ctx.tensor_dims(part) for part in cast(tuple[Argument, ...], call.arguments["tensors"])]
    out = parts[0]
    for part in parts[1:]:
        out = [unify(a, b) for a, b in zip(out, part, strict=True)]
    out = list(out)
    out.insert(axis(call, len(out) + 1), fixed(len(parts), "stacked"))
    return out


@lowers("stack")
def _lower_stack(low: Lowering, call: Call) -> ResultValues:
    position = axis(call, len(low.result_shape(call)))
    tensors = cast(tuple[Argument, ...], call.arguments["tensors"])
    parts = [typed_operand(low, tensor, low.result_type(call)) for tensor in tensors]
    columns = [low.add("Unsqueeze", part, low.numbers([position])) for part in parts]
    return low.add("Concat", *columns, axis=position)


def _split_sizes(call: Call, size: int) -> list[int]:
    """The sizes of the parts that a call divides a size into."""
    a = call.arguments
    if (sizes := a.get("split_sizes")) is not None or isinstance(sizes := a.get("split_size"), tuple):
        return list(cast(tuple[int, ...], sizes))
    if call.name == "tensor_split":
        if isinstance(n := a.get("sections"), int):
            return [size // n + (i < size % n) for i in range(n)]
        bounds = [range(size)[:end].stop for end in cast(tuple[int, ...], a["indices"])]
        return [max(end - start, 0) for start, end in zip([0, *bounds], [*bounds, size], strict=True)]
    step = sizes if isinstance(sizes, int) else -(-size // cast(int, a["chunks"]))
    return [min(step, size - start) for start in range(0, size, step)]


@rule_of("split", "split_with_sizes", "chunk", "tensor_split")
def _split_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    position = axis(call, len(x))
    pieces = split(x[position], _split_sizes(call, find(x[position]).size))
    ctx.depends(split_sizes=tuple(pieces))
    return tuple([*x[:position], piece, *x[position + 1 :]] for piece in pieces)


@lowers("split_with_sizes", "split", "chunk", "tensor_split")
def _lower_split(low: Lowering, call: Call) -> ResultValues:
    x = call.arguments["self"]
    position, n = axis(call, low.rank(x)), len(call.outputs)
    if position in low.dynamic(x):
        raise LoweringError("there is no rule for a division of the batch")
    sizes = _split_sizes(call, low.shape(x)[position])
    if len(set(sizes)) == 1:
        return low.add_many("Split", [low.tensor(x)], n, axis=position, num_outputs=n)
    return low.add_many("Split", [low.tensor(x), low.numbers(sizes)], n, axis=position)


@rule_of("glu")
def _glu_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    position = axis(call, len(x))
    half = find(x[position]).size // 2
    first, second = split(x[position], [half, half])
    x[position] = unify(first, second)
    return x


@lowers("glu")
def _lower_glu(low: Lowering, call: Call) -> ResultValues:
    axis = cast(int, call.arguments["dim"])
    a, b = low.add_many("Split", [low.tensor(call.arguments["self"])], 2, axis=axis, num_outputs=2)
    return low.add("Mul", a, low.add("Sigmoid", b))


@rule_of("unbind")
def _unbind_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    position = axis(call, len(x))
    fix(x[position], "taken apart unit by unit")
    return tuple([dimension for i, dimension in enumerate(x) if i != position] for _ in call.outputs)


@lowers("unbind")
def _lower_unbind(low: Lowering, call: Call) -> ResultValues:
    axis, n = cast(int, call.arguments["dim"]), len(call.outputs)
    parts = low.add_many("Split", [low.tensor(call.arguments["self"])], n, axis=axis, num_outputs=n)
    return [low.add("Squeeze", part, low.numbers([axis])) for part in parts]
