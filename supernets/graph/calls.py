"""Which function of a trace means which nodes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx._symbolic_trace import _assert_is_none
from torch.nn import functional

from supernets.errors import LoweringError
from supernets.graph import functions
from supernets.graph.ir import Graph, Value


def _equal(graph: Graph, a: object, b: object) -> bool:
    """Of plain arguments, which fx compares with those that it traced with."""
    if isinstance(a, Value) or isinstance(b, Value):
        raise LoweringError("comparing tensors is not lowered")
    return a == b


def _holds(graph: Graph, *_: object) -> None:
    """A check that fx adds for an argument it traced with; it holds, because the trace is kept by those arguments."""


FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    operator.add: functions.add,
    operator.iadd: functions.add,
    torch.add: functions.add,
    operator.sub: functions.subtract,
    torch.sub: functions.subtract,
    operator.mul: functions.multiply,
    operator.imul: functions.multiply,
    torch.mul: functions.multiply,
    operator.truediv: functions.divide,
    torch.div: functions.divide,
    operator.matmul: functions.matmul,
    torch.matmul: functions.matmul,
    torch.bmm: functions.matmul,
    torch.relu: functions.relu,
    functional.relu: functions.relu,
    functional.relu6: functions.relu6,
    torch.sigmoid: functions.sigmoid,
    functional.sigmoid: functions.sigmoid,
    torch.tanh: functions.tanh,
    functional.silu: functions.silu,
    functional.hardswish: functions.hardswish,
    functional.hardsigmoid: functions.hardsigmoid,
    functional.gelu: functions.gelu,
    torch.softmax: functions.softmax,
    functional.softmax: functions.softmax,
    functional.dropout: functions.dropout,
    functional.scaled_dot_product_attention: functions.attention,
    torch.mean: functions.mean,
    torch.flatten: functions.flatten,
    torch.reshape: functions.reshape,
    torch.permute: functions.permute,
    torch.transpose: functions.transpose,
    torch.cat: functions.concatenate,
    torch.concat: functions.concatenate,
    torch.chunk: functions.chunk,
    operator.eq: _equal,
    torch._assert: _holds,
    _assert_is_none: _holds,
}
"""Functions that a forward calls, with the arguments' names that torch has."""

METHODS: Mapping[str, Callable[..., Any]] = {
    "add": functions.add,
    "sub": functions.subtract,
    "mul": functions.multiply,
    "div": functions.divide,
    "matmul": functions.matmul,
    "relu": functions.relu,
    "sigmoid": functions.sigmoid,
    "tanh": functions.tanh,
    "softmax": functions.softmax,
    "mean": functions.mean,
    "flatten": functions.flatten,
    "reshape": functions.reshape,
    "view": functions.reshape,
    "permute": functions.permute,
    "transpose": functions.transpose,
    "chunk": functions.chunk,
    "contiguous": lambda graph, x: x,
}
"""Methods that a forward calls on a tensor."""
