"""Tables of the lowering rules for functions and methods in a trace."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from supernets import resizing, tokens
from supernets.experts import mixing
from supernets.graph import causal, experts, functions

FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    operator.add: functions.add,
    operator.iadd: functions.in_place(functions.add),
    torch.add: functions.add,
    operator.sub: functions.subtract,
    operator.isub: functions.in_place(functions.subtract),
    torch.sub: functions.subtract,
    operator.mul: functions.multiply,
    operator.imul: functions.in_place(functions.multiply),
    torch.mul: functions.multiply,
    operator.truediv: functions.divide,
    operator.itruediv: functions.in_place(functions.divide),
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
    functional.interpolate: functions.interpolate,
    functional.pad: functions.pad,
    resizing.resize: functions.resize,
    tokens.padding_mask: functions.padding_mask,
    tokens.first_rows: functions.first_rows,
    tokens.attend: functions.attend,
    **{getattr(tokens, rule.__name__): rule for rule in causal.RULES},
    mixing.mixed_experts: experts.mixed_experts,
    functional.linear: functions.linear,
    torch.mean: functions.mean,
    torch.flatten: functions.flatten,
    torch.reshape: functions.reshape,
    torch.permute: functions.permute,
    torch.transpose: functions.transpose,
    torch.index_select: functions.index_select,
    torch.cat: functions.concatenate,
    torch.concat: functions.concatenate,
    torch.chunk: functions.chunk,
}
"""Rules of functions, with torch's argument names."""

_AS_FUNCTIONS = (
    "add", "sub", "mul", "div", "matmul", "relu", "sigmoid", "tanh", "softmax", "mean", "flatten", "reshape", "permute",
    "transpose", "chunk",
)  # fmt: skip
METHODS: Mapping[str, Callable[..., Any]] = {
    **{name: FUNCTIONS[getattr(torch, name)] for name in _AS_FUNCTIONS},
    "view": functions.reshape,
    "contiguous": lambda graph, x: x,
}
"""Rules of tensor methods."""
