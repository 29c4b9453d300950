"""ONNX of what several operations consist of, with the shapes of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import pi, sqrt

from supernets.errors import LoweringError
from supernets.networks.onnx_graph.ir import BATCH_SIZE, Graph, Shape, Value

_mismatch = partial(LoweringError, code="export.shape-mismatch")

Operand = Value | int | float
Arithmetic = Callable[[Graph, Operand, Operand], Value]


def _broadcast(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    for position, (m, n) in enumerate(zip(a, b, strict=True)):
        if (m != n and 1 not in (m, n)) or (position > 0 and BATCH_SIZE in (m, n)):
            raise _mismatch(f"the shapes {a} and {b} cannot be broadcast")
    return tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))


def _operand(graph: Graph, x: Operand) -> Value:
    """A value, or a number as a constant of 32 bits."""
    return x if isinstance(x, Value) else graph.scalar(x)


def _arithmetic(op: str) -> Arithmetic:
    """The nodes of an arithmetic operator."""

    def append(graph: Graph, a: Operand, b: Operand) -> Value:
        left, right = _operand(graph, a), _operand(graph, b)
        return graph.add(op, [left, right], _broadcast(left.shape, right.shape))

    return append


add, subtract, multiply, divide = (_arithmetic(op) for op in ("Add", "Sub", "Mul", "Div"))


def silu(graph: Graph, x: Value) -> Value:
    """x * sigmoid(x)."""
    return multiply(graph, x, graph.add("Sigmoid", [x], x.shape))


def gelu(graph: Graph, x: Value, approximate: str = "none") -> Value:
    """x times the normal distribution function. This opset has no such operation; runtimes recognise the pattern."""
    if approximate == "tanh":
        cube = multiply(graph, multiply(graph, multiply(graph, x, x), x), 0.044715)
        bent = graph.add("Tanh", [multiply(graph, add(graph, x, cube), sqrt(2 / pi))], x.shape)
    else:
        bent = graph.add("Erf", [divide(graph, x, sqrt(2.0))], x.shape)
    return multiply(graph, multiply(graph, x, add(graph, bent, 1.0)), 0.5)


def softmax(graph: Graph, x: Value, dim: int) -> Value:
    """Softmax over one dimension."""
    return graph.add("Softmax", [x], x.shape, axis=dim % x.rank)


def permute(graph: Graph, x: Value, *order: int) -> Value:
    """The dimensions in another order."""
    return graph.add("Transpose", [x], tuple(x.shape[dim] for dim in order), perm=tuple(order))


def concatenate(graph: Graph, tensors: Sequence[Value], axis: int) -> Value:
    """Tensors one after another along a dimension of known sizes."""
    before, after = tensors[0].shape[:axis], tensors[0].shape[axis + 1 :]
    return graph.add("Concat", tensors, (*before, sum(x.shape[axis] for x in tensors), *after), axis=axis)


def halves(graph: Graph, x: Value, axis: int) -> list[Value]:
    """Two equal parts along a dimension of known size."""
    part = (*x.shape[:axis], x.shape[axis] // 2, *x.shape[axis + 1 :])
    return graph.add_many("Split", [x], [part] * 2, axis=axis, num_outputs=2)


def matmul(graph: Graph, a: Value, b: Value) -> Value:
    """The product of (stacks of) matrices."""
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
        raise _mismatch(f"cannot multiply matrices of the shapes {a.shape} and {b.shape}")
    return graph.add("MatMul", [a, b], (*_broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))


def linear(graph: Graph, x: Value, weight: Value) -> Value:
    """The product of (..., inputs) with a weight (outputs, inputs)."""
    # Runtimes transpose the constant when they load the model.
    transposed = graph.add("Transpose", [weight], weight.shape[::-1], perm=(1, 0))
    return graph.add("MatMul", [x, transposed], (*x.shape[:-1], weight.shape[0]))
