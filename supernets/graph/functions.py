"""Lowering rules for functions: elementwise, reductions, shapes and attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import pi, prod, sqrt

import numpy as np

from supernets.errors import LoweringError
from supernets.graph.ir import BATCH_SIZE, Graph, Shape, Value
from supernets.resizing import onnx_scale
from supernets.tokens import MASKED

_mismatch = partial(LoweringError, code="export.shape-mismatch")
_dynamic = partial(LoweringError, code="export.dynamic-dimension")

Operand = Value | int | float
Arithmetic = Callable[[Graph, Operand, Operand], Value]


def dimension(dim: int, rank: int) -> int:
    """A dimension counted from the front.

    Raises:
        LoweringError: there is no such dimension.
    """
    if not -rank <= dim < rank:
        raise _mismatch(f"dimension {dim} of a tensor with {rank} dimensions")
    return int(dim % rank)


def _broadcast(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    for position, (m, n) in enumerate(zip(a, b, strict=True)):
        if (m != n and 1 not in (m, n)) or (position > 0 and BATCH_SIZE in (m, n)):
            raise _mismatch(f"the shapes {a} and {b} cannot be broadcast")
    return tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))


def _operand(graph: Graph, x: Operand, other: Operand) -> Value:
    """A value, or a number as a constant of the type in which torch computes."""
    if isinstance(x, Value):
        return x
    if isinstance(x, int) and isinstance(other, Value) and other.name in graph.integers:
        return graph.constant(np.array(x, dtype=np.int64))
    return graph.scalar(x)


def _arithmetic(op: str) -> Arithmetic:
    """The rule of an arithmetic operator."""

    def rule(graph: Graph, a: Operand, b: Operand) -> Value:
        left, right = _operand(graph, a, b), _operand(graph, b, a)
        return graph.add(op, [left, right], _broadcast(left.shape, right.shape))

    return rule


add, subtract, multiply, divide = (_arithmetic(op) for op in ("Add", "Sub", "Mul", "Div"))


def in_place(rule: Arithmetic) -> Arithmetic:
    """The rule of the in-place form of an operator, e.g. ``a += b``."""
    return lambda graph, a, b: _in_place(graph, a, rule(graph, a, b))


def _in_place(graph: Graph, old: Operand, new: Value, *, inplace: bool = True) -> Value:
    # Python numbers have no memory that others read.
    return graph.overwrite(old, new) if inplace and isinstance(old, Value) else new


def _elementwise(op: str, **attributes: float) -> Callable[..., Value]:
    """The rule of a function of one tensor, which may be in place."""

    def rule(graph: Graph, x: Value, inplace: bool = False) -> Value:
        return _in_place(graph, x, graph.add(op, [x], x.shape, **attributes), inplace=inplace)

    return rule


relu, sigmoid, tanh, hardswish = (_elementwise(op) for op in ("Relu", "Sigmoid", "Tanh", "HardSwish"))
hardsigmoid = _elementwise("HardSigmoid", alpha=1 / 6, beta=0.5)


def relu6(graph: Graph, x: Value, inplace: bool = False) -> Value:
    """Values limited to 0 to 6."""
    return _in_place(graph, x, graph.add("Clip", [x, graph.scalar(0.0), graph.scalar(6.0)], x.shape), inplace=inplace)


def silu(graph: Graph, x: Value, inplace: bool = False) -> Value:
    """x * sigmoid(x)."""
    return _in_place(graph, x, multiply(graph, x, sigmoid(graph, x)), inplace=inplace)


def gelu(graph: Graph, x: Value, approximate: str = "none") -> Value:
    """x times the normal distribution function. This opset has no such operation; runtimes recognise the pattern."""
    if approximate == "tanh":
        cube = multiply(graph, multiply(graph, multiply(graph, x, x), x), 0.044715)
        bent = graph.add("Tanh", [multiply(graph, add(graph, x, cube), sqrt(2 / pi))], x.shape)
        return multiply(graph, multiply(graph, x, add(graph, bent, 1.0)), 0.5)
    if approximate != "none":
        raise LoweringError(f"there is no rule for gelu(approximate={approximate!r}); use 'none' or 'tanh'")
    erf = graph.add("Erf", [divide(graph, x, sqrt(2.0))], x.shape)
    return multiply(graph, multiply(graph, x, add(graph, erf, 1.0)), 0.5)


def softmax(graph: Graph, x: Value, dim: int | None = None, dtype: object = None, _stacklevel: int = 3) -> Value:
    """Softmax over one dimension."""
    if dim is None or dtype is not None:
        raise LoweringError("there is no rule for softmax without dim or with dtype")
    return graph.add("Softmax", [x], x.shape, axis=dimension(dim, x.rank))


def dropout(graph: Graph, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    """The input unchanged."""
    if training:
        raise LoweringError("dropout is in training mode; pass training=False", code="export.module-state")
    return x


def mean(graph: Graph, x: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Value:
    """The mean over dimensions other than the batch.

    Over the two sides of an image it becomes the pooling that runtimes compute in their own layout of channels.
    """
    if dim is None:
        raise _dynamic("a mean over all dimensions includes the batch; give dim")
    axes = sorted({dimension(d, x.rank) for d in ([dim] if isinstance(dim, int) else dim)})
    if not axes or (x.batched and 0 in axes):
        raise _dynamic(f"a mean over the dimensions {tuple(axes)} includes the batch or is empty; give other dim")
    if x.rank == 4 and axes == [2, 3]:
        pooled = graph.add("GlobalAveragePool", [x], (*x.shape[:2], 1, 1))
        return pooled if keepdim else flatten(graph, pooled, 1)
    kept = (1 if i in axes else n for i, n in enumerate(x.shape))
    left = (n for i, n in enumerate(x.shape) if i not in axes)
    shape = tuple(kept if keepdim else left)
    return graph.add("ReduceMean", [x, graph.numbers(axes)], shape, keepdims=int(keepdim))


def interpolate(
    graph: Graph,
    x: Value,
    size: int | Sequence[int] | None = None,
    scale_factor: object = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: object = None,
    antialias: bool = False,
) -> Value:
    """Bilinear resizing of images with half-pixel centres.

    Coordinates differ in their last bits, because runtimes divide where torch multiplies: by 3e-5 of a pixel at 224 pixels,
    and images by that share of the difference between neighbours (1e-4 for white noise, less for photographs). Use
    `supernets.resizing.resize` to avoid this.
    """
    if x.rank != 4 or size is None or scale_factor is not None or mode != "bilinear" or align_corners or antialias:
        raise LoweringError(
            f"there is no rule for interpolate(mode={mode!r}, ...) of {x.shape}; use mode='bilinear' with a size on images"
        )
    return resize(graph, x, size)


def resize(graph: Graph, x: Value, side: int | Sequence[int]) -> Value:
    """`supernets.resizing.resize`, also for (height, width); written with scales, which every runtime supports."""
    height, width = (side, side) if isinstance(side, int) else map(int, side)
    if (height, width) == x.shape[2:]:
        return x
    scales = [np.float32(1), np.float32(1), onnx_scale(x.shape[2], height), onnx_scale(x.shape[3], width)]
    inputs, shape = [x, None, graph.constant(np.array(scales))], (*x.shape[:2], height, width)
    return graph.add("Resize", inputs, shape, mode="linear", coordinate_transformation_mode="half_pixel")


def _check_lengths(operation: str, x: Value) -> None:
    """Raises `LoweringError` if a dimension is the dynamic number of tokens."""
    if any(n < BATCH_SIZE for n in x.shape):
        raise _dynamic(f"there is no rule for {operation} of sentences of any length; use supernets.tokens")


def pad(graph: Graph, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    """Zeros before and after dimensions of known size; `pad` has two numbers per dimension, from the last dimension on."""
    before, after = [0] * x.rank, [0] * x.rank
    for i, (low, high) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        before[x.rank - 1 - i], after[x.rank - 1 - i] = low, high
    sides = list(zip(before, x.shape, after, strict=True))
    if mode != "constant" or value or min(pad) < 0 or any(n < 0 and b + a for b, n, a in sides):
        raise LoweringError(
            f"there is no rule for pad({tuple(pad)}, mode={mode!r}, value={value}) of {x.shape}; pad known sizes with zeros"
        )
    return graph.add("Pad", [x, graph.numbers([*before, *after])], tuple(b + n + a for b, n, a in sides))


def flatten(graph: Graph, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Merges dimensions other than the batch."""
    start, end = dimension(start_dim, x.rank), dimension(end_dim, x.rank)
    _check_lengths("flatten", x)
    if x.batched and start == 0 and end > 0:
        raise _dynamic("flatten merges the batch with other dimensions; use start_dim=1")
    shape = (*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
    if start == 1 and end == x.rank - 1:
        return graph.view(x, graph.add("Flatten", [x], shape, axis=1))
    return graph.view(x, graph.add("Reshape", [x, graph.numbers(shape)], shape))


def reshape(graph: Graph, x: Value, *sizes: int | Sequence[int]) -> Value:
    """Another shape with the batch as its first dimension; one other size may be -1."""
    shape = [n for size in sizes for n in ([size] if isinstance(size, int) else size)]
    _check_lengths("reshape", x)
    leading = [BATCH_SIZE] if x.batched else []
    rest, numbers = shape[len(leading) :], prod(x.shape[len(leading) :])
    if rest.count(-1) == 1:
        rest[rest.index(-1)] = numbers // max(1, -prod(rest))
    if shape[: len(leading)] != leading or any(n < 1 for n in rest) or prod(rest) != numbers:
        raise _mismatch(f"cannot reshape {x.shape} to {tuple(shape)}; expected equal sizes, and the batch first")
    return graph.view(x, graph.add("Reshape", [x, graph.numbers([*leading, *rest])], (*leading, *rest)))


def permute(graph: Graph, x: Value, *dims: int | Sequence[int]) -> Value:
    """The dimensions in another order, with the batch first."""
    order = [dimension(d, x.rank) for dim in dims for d in ([dim] if isinstance(dim, int) else dim)]
    if sorted(order) != list(range(x.rank)) or (x.batched and order[0] != 0):
        raise _dynamic(f"cannot permute the {x.rank} dimensions to {tuple(order)}; keep the batch first")
    return graph.view(x, graph.add("Transpose", [x], tuple(x.shape[d] for d in order), perm=tuple(order)))


def transpose(graph: Graph, x: Value, dim0: int, dim1: int) -> Value:
    """Exchanges two dimensions other than the batch."""
    a, b = dimension(dim0, x.rank), dimension(dim1, x.rank)
    return permute(graph, x, [{a: b, b: a}.get(d, d) for d in range(x.rank)])


def index_select(graph: Graph, x: Value, dim: int, index: Value) -> Value:
    """Some indices of a dimension other than the batch."""
    axis = dimension(dim, x.rank)
    if index.rank != 1 or (x.batched and axis == 0):
        raise _dynamic(
            f"index_select reads a vector of indices of a dimension other than the batch, got dimension {axis}"
        )
    return graph.add("Gather", [x, index], (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), axis=axis)


def concatenate(graph: Graph, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Concatenates tensors along a dimension other than the batch."""
    axis = dimension(dim, tensors[0].rank)
    others = {(x.shape[:axis], x.shape[axis + 1 :]) for x in tensors}
    if any(x.shape[axis] < 0 for x in tensors) or len(others) > 1:
        raise _mismatch(f"Concat: cannot concatenate {[x.shape for x in tensors]} along dimension {axis}")
    before, after = others.pop()
    return graph.add("Concat", tensors, (*before, sum(x.shape[axis] for x in tensors), *after), axis=axis)


def chunk(graph: Graph, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    """Equal parts along a dimension other than the batch."""
    axis = dimension(dim, x.rank)
    if x.shape[axis] < 0 or x.shape[axis] % chunks:
        raise _mismatch(f"Split: cannot split dimension {axis} of {x.shape} into {chunks} equal parts")
    part = (*x.shape[:axis], x.shape[axis] // chunks, *x.shape[axis + 1 :])
    parts = graph.add_many("Split", [x], [part] * chunks, axis=axis, num_outputs=chunks)
    return tuple(graph.view(x, value) for value in parts)


def matmul(graph: Graph, a: Value, b: Value) -> Value:
    """The product of (stacks of) matrices."""
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
        raise _mismatch(f"cannot multiply matrices of the shapes {a.shape} and {b.shape}")
    return graph.add("MatMul", [a, b], (*_broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))


def linear(graph: Graph, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """Torch's ``linear``: the product with a weight (outputs, inputs)."""
    if x.rank < 2 or weight.rank != 2 or x.shape[-1] != weight.shape[1]:
        raise _mismatch(f"cannot apply a weight of the shape {weight.shape} to {x.shape}")
    shape = (*x.shape[:-1], weight.shape[0])
    if x.rank == 2:
        return graph.add("Gemm", [x, weight] if bias is None else [x, weight, bias], shape, transB=1)
    # Gemm supports matrices only. Runtimes transpose the constant when they load the model.
    transposed = graph.add("Transpose", [weight], weight.shape[::-1], perm=(1, 0))
    product = graph.add("MatMul", [x, transposed], shape)
    return product if bias is None else graph.add("Add", [product, bias], shape)


def attention(
    graph: Graph,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Value:
    """Torch's ``scaled_dot_product_attention``: softmax(q k^T / sqrt(d)) v of tensors (n, heads, tokens, d)."""
    if attn_mask is not None or dropout_p or is_causal:
        raise LoweringError("there is no rule for scaled_dot_product_attention with a mask or dropout")
    # Scaling the queries is cheaper than scaling the scores.
    scaled = multiply(graph, query, query.shape[-1] ** -0.5 if scale is None else scale)
    scores = matmul(graph, scaled, transpose(graph, key, -2, -1))
    return matmul(graph, softmax(graph, scores, -1), value)


def padding_mask(graph: Graph, ids: Value, padding: int) -> Value:
    """`supernets.tokens.padding_mask`: (n, tokens) integers -> (n, 1, 1, tokens)."""
    same = graph.add("Equal", [ids, graph.constant(np.array(padding, dtype=np.int64))], ids.shape)
    masked = graph.add("Mul", [graph.add("Cast", [same], ids.shape, to=1), graph.scalar(MASKED)], ids.shape)
    return graph.add("Unsqueeze", [masked, graph.numbers([1, 2])], (ids.shape[0], 1, 1, ids.shape[1]))


def first_rows(graph: Graph, table: Value, ids: Value) -> Value:
    """`supernets.tokens.first_rows`: (rows, width), (n, tokens) -> (tokens, width)."""
    tokens = graph.add("Shape", [ids], (1,), start=1, end=2)
    zero = graph.numbers([0])
    return graph.add("Slice", [table, zero, tokens, zero], (ids.shape[1], table.shape[1]))


def attend(graph: Graph, query: Value, key: Value, value: Value, head_size: int, mask: Value | None = None) -> Value:
    """`supernets.tokens.attend`: (n, tokens, heads x head_size) -> the same."""
    n, tokens, channels = query.shape
    heads = channels // head_size

    def split(x: Value, *order: int) -> Value:
        # In ONNX 0 keeps a size, so that both dynamic dimensions stay unknown.
        parted = graph.add("Reshape", [x, graph.numbers([0, 0, heads, head_size])], (n, tokens, heads, head_size))
        return permute(graph, parted, *order)

    scaled = split(multiply(graph, query, head_size**-0.5), 0, 2, 1, 3)
    scores = matmul(graph, scaled, split(key, 0, 2, 3, 1))
    scores = scores if mask is None else add(graph, scores, mask)
    mixed = permute(graph, matmul(graph, softmax(graph, scores, -1), split(value, 0, 2, 1, 3)), (0, 2, 1, 3))
    return graph.add("Reshape", [mixed, graph.numbers([0, 0, channels])], (n, tokens, channels))


def element(graph: Graph, x: Value, index: object) -> Value:
    """``x[:, 2]`` and the like: one integer, not in the batch, and full slices."""
    parts = list(index) if isinstance(index, tuple) else [index]
    integers = [(i, part) for i, part in enumerate(parts) if isinstance(part, int) and not isinstance(part, bool)]
    if len(integers) != 1 or parts.count(slice(None)) != len(parts) - 1 or len(parts) > x.rank:
        raise LoweringError(f"there is no rule for indexing by {index!r}; use one integer and full slices")
    axis, position = integers[0]
    # Along a dynamic length only the first position is certain to exist.
    inside = position == 0 if x.shape[axis] < BATCH_SIZE else -x.shape[axis] <= position < x.shape[axis]
    if (x.batched and axis == 0) or not inside:
        raise _mismatch(f"cannot index dimension {axis} of {x.shape} by {position}")
    at = graph.numbers([position % abs(x.shape[axis])])
    selected = graph.add("Gather", [x, at], (*x.shape[:axis], 1, *x.shape[axis + 1 :]), axis=axis)
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    return graph.view(x, graph.add("Squeeze", [selected, graph.numbers([axis])], shape))
