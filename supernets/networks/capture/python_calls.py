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
        "hardswish", "hardsigmoid", "hardtanh", "silu", "gelu", "mish", "relu6", "leaky_relu", "glu", "avg_pool2d",
        "max_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "pad", "linear",
        "scaled_dot_product_attention",
    )
)  # fmt: skip
"""Functions of `torch.nn.functional` with the arguments of their operations, in their order."""
_END = 2**62
"""As the end of a slice: none."""


def call_text(call: Call, texts: Mapping[str, str]) -> str:
    """The expression of a call.

    Args:
        texts: of its arguments, by name.
    """
    given = list(texts)
    if call.name in _SIGNS and len(given) > 1 and texts.get("alpha", "1") == "1" and "rounding_mode" not in texts:
        return f"{texts[given[0]]} {_SIGNS[call.name]} {texts[given[1]]}"
    if call.op == "aten.index.Tensor":
        indices: Any = call.arguments["indices"]
        shown = texts["indices"][1:-1].split(", ")
        return f"{texts['self']}[{', '.join(':' if i is None else s for i, s in zip(indices, shown, strict=True))}]"
    if call.op == "aten.slice.Tensor" and isinstance(found := _slice(call, texts), str):
        return found
    schema = operation(call)._schema
    method = getattr(torch.Tensor, call.name, None)
    if given[0] == "self" and (isinstance(method, types.MethodDescriptorType) or call.name in _METHODS):
        return f"{texts['self']}.{call.name}({_listed(schema, texts, skip=1)})"
    if call.name in _FUNCTIONS:
        return f"F.{call.name}({_listed(schema, texts, names=False)})"
    if isinstance(getattr(torch, call.name, None), types.BuiltinFunctionType):
        return f"torch.{call.name}({_listed(schema, texts)})"
    return f"torch.ops.{call.op}({_listed(schema, texts)})"


def returns_several(call: Call) -> bool:
    """Whether the operation returns a tuple or a list."""
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


def _listed(schema: Any, texts: Mapping[str, str], *, skip: int = 0, names: bool = True) -> str:
    """The arguments without those at their defaults.

    Args:
        names: whether arguments after one that is left out may be given by name; else none before them is left out.
    """
    own = [(one, texts[one.name]) for one in schema.arguments if one.name in texts][skip:]
    needed = [not one.has_default_value() or repr(one.default_value) != text for one, text in own]
    last = max((i for i, need in enumerate(needed) if need and not own[i][0].kwarg_only), default=-1)
    found, positional = [], True
    for i, (one, text) in enumerate(own):
        if one.kwarg_only:
            if needed[i]:
                found.append(f"{one.name}={text}")
        elif needed[i] or (not names and i <= last):
            found.append(text if positional else f"{one.name}={text}")
        else:
            positional = False
    return ", ".join(found)
