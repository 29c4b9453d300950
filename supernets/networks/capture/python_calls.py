"""Python expressions for ATen calls: methods of tensors and functions of torch where they are the same, else the operation."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

import torch

from supernets.networks.capture.program import Call
from supernets.networks.operations import operation

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_METHODS = frozenset(("split", "unflatten"))
"""Methods that are written in Python, with the arguments of their operations."""
_FUNCTIONS = frozenset(
    (
        "hardswish",
        "hardsigmoid",
        "hardtanh",
        "silu",
        "gelu",
        "mish",
        "relu6",
        "leaky_relu",
        "glu",
        "avg_pool2d",
        "max_pool2d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "avg_pool1d",
        "pad",
        "linear",
        "scaled_dot_product_attention",
    )
)
"""Functions of `torch.nn.functional` with the arguments of their operations, in their order."""
_END = 2**62
"""The end of a slice that has none."""


def call_text(call: Call, texts: Mapping[str, str]) -> str:
    """The expression of a call.

    Args:
        texts: Texts of its arguments, by name.
    """
    argument_names = list(texts)
    if (
        call.name in _SIGNS
        and len(argument_names) > 1
        and texts.get("alpha", "1") == "1"
        and "rounding_mode" not in texts
    ):
        return f"{texts[argument_names[0]]} {_SIGNS[call.name]} {texts[argument_names[1]]}"
    if call.op == "aten.index.Tensor":
        indices: Any = call.arguments["indices"]
        shown = texts["indices"][1:-1].split(", ")
        return f"{texts['self']}[{', '.join(':' if i is None else s for i, s in zip(indices, shown, strict=True))}]"
    if call.op == "aten.slice.Tensor" and isinstance(slice_text := _slice(call, texts), str):
        return slice_text
    schema = operation(call)._schema
    method = getattr(torch.Tensor, call.name, None)
    if argument_names[0] == "self" and (isinstance(method, types.MethodDescriptorType) or call.name in _METHODS):
        return f"{texts['self']}.{call.name}({_argument_list(schema, texts, skip=1)})"
    if call.name in _FUNCTIONS:
        return f"F.{call.name}({_argument_list(schema, texts, names=False)})"
    if isinstance(getattr(torch, call.name, None), types.BuiltinFunctionType):
        return f"torch.{call.name}({_argument_list(schema, texts)})"
    return f"torch.ops.{call.op}({_argument_list(schema, texts)})"


def returns_several(call: Call) -> bool:
    """Returns whether the operation returns a tuple or a list."""
    returns = operation(call)._schema.returns
    return len(returns) > 1 or isinstance(returns[0].type, torch.ListType)


def _slice(call: Call, texts: Mapping[str, str]) -> str | None:
    """An expression with brackets; None where the dimension is counted from the end."""
    dim, end = call.arguments["dim"], call.arguments.get("end")
    if not isinstance(dim, int) or dim < 0:
        return None
    start = "" if texts.get("start") in (None, "None", "0") else texts["start"]
    stop = "" if end is None or (isinstance(end, int) and end >= _END) else texts["end"]
    step = "" if texts.get("step", "1") == "1" else f":{texts['step']}"
    return f"{texts['self']}[{':, ' * dim}{start}:{stop}{step}]"


def _argument_list(schema: Any, texts: Mapping[str, str], *, skip: int = 0, names: bool = True) -> str:
    """The arguments without those at their defaults.

    Args:
        names: True if arguments after one that is left out may be given by name; else none before them is left out.
    """
    arguments = [(argument, texts[argument.name]) for argument in schema.arguments if argument.name in texts][skip:]
    needed = [not argument.has_default_value() or repr(argument.default_value) != text for argument, text in arguments]
    last = max((i for i, need in enumerate(needed) if need and not arguments[i][0].kwarg_only), default=-1)
    parts, positional = [], True
    for i, (argument, text) in enumerate(arguments):
        if argument.kwarg_only:
            if needed[i]:
                parts.append(f"{argument.name}={text}")
        elif needed[i] or (not names and i <= last):
            parts.append(text if positional else f"{argument.name}={text}")
        else:
            positional = False
    return ", ".join(parts)
