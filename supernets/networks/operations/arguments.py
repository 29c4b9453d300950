"""Accounts for every argument of an operation's schema: a rule reads it, or it is declared to be neutral."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch

from supernets.errors import CaptureError
from supernets.networks.capture.program import Argument, Call, refs
from supernets.networks.own_operations import FUNCTIONS, NAMESPACE

_EACH_NUMBER = "it changes each number alone"
_STORAGE = "it concerns memory, and no value"
_TRAINING = "it changes statistics or gradients alone"
NEUTRAL_FOR_ONNX: Mapping[str, str] = {
    **dict.fromkeys(("copy", "device", "layout", "memory_format", "non_blocking", "pin_memory", "implicit"), _STORAGE),
    **dict.fromkeys(("cudnn_enable", "cudnn_enabled", "path", "stable"), "it chooses an implementation"),
    **dict.fromkeys(("momentum", "padding_idx", "scale_grad_by_freq", "sparse", "sparse_grad"), _TRAINING),
}
"""Arguments that change no result of a network in evaluation mode, with the reason."""
NEUTRAL_FOR_DIMENSIONS: Mapping[str, str] = {
    **NEUTRAL_FOR_ONNX,
    **dict.fromkeys(
        (
            "alpha",
            "approximate",
            "beta",
            "decimals",
            "dtype",
            "eps",
            "exponent",
            "fill_value",
            "input_scale",
            "lambd",
            "max",
            "max_val",
            "min",
            "min_val",
            "nan",
            "negative_slope",
            "neginf",
            "other",
            "out_dtype",
            "posinf",
            "rounding_mode",
            "scale",
            "self",
            "threshold",
            "value",
        ),
        _EACH_NUMBER,
    ),
    **dict.fromkeys(("correction", "ord", "p", "unbiased"), "all units of a reduction count alike"),
    **dict.fromkeys(("dropout", "dropout_p", "generator", "train"), "units are dropped independently of each other"),
    "weight": "as a number it changes each number alone",
}
"""Arguments, none of them a tensor, that treat all units of every dimension alike in every operation, with the reason."""


_NO_SCHEMA = SimpleNamespace(arguments=(), returns=())
"""Of an own operation, which is a function."""


def operation(call: Call) -> Any:
    """The ATen operation of a call."""
    if call.op.startswith(f"{NAMESPACE}."):
        return FUNCTIONS[call.name]
    return registered(call)


def registered(call: Call) -> Any:
    """The operation of a call in torch's registry, which has a schema, and computes shapes of tensors without values."""
    namespace, name, overload = call.op.split(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except AttributeError:
        text = f"this version of torch has no operation {call.op}; capture the network again"
        raise CaptureError(text, code="capture.unknown-operation") from None


def may_return_view(operation: Any) -> bool:
    """Returns whether results of an operation may share the memory of its first argument, by its schema."""
    aliases = (result.alias_info for result in getattr(operation, "_schema", _NO_SCHEMA).returns)
    return any(alias is not None and not alias.is_write for alias in aliases)


class RecordedArguments(Mapping[str, Argument]):
    """The arguments of a call, with a record of those that a rule reads.

    To ask whether there is an argument reads nothing; to iterate over the values reads the tensors.
    """

    def __init__(self, arguments: Mapping[str, Argument]) -> None:
        self._arguments = arguments
        self.names_read: set[str] = set()

    def __getitem__(self, name: str) -> Argument:
        self.names_read.update({name} & self._arguments.keys())
        return self._arguments[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arguments

    def __iter__(self) -> Iterator[str]:
        return iter(self._arguments)

    def __len__(self) -> int:
        return len(self._arguments)

    def values(self) -> Any:
        self.names_read.update(name for name, argument in self._arguments.items() if any(refs(argument)))
        return self._arguments.values()


def unread_arguments(
    call: Call, names_read: Collection[str], neutral: Collection[str], neutral_numbers: Collection[str]
) -> list[str]:
    """The arguments of a call that matter and that its rule did not read, as ``name=value``.

    Arguments that are None or at the default of the schema do not matter, nor do neutral ones.

    Args:
        neutral_numbers: arguments that are neutral unless they are tensors.
    """
    unread = [name for name, argument in call.arguments.items() if argument is not None and name not in names_read]
    if not unread:
        return []
    defaults = _defaults(call.op)
    return [
        f"{name}={call.arguments[name]!r}"
        for name in unread
        if name not in neutral
        and (any(refs(call.arguments[name])) or name not in neutral_numbers)
        and not (name in defaults and _is_default(call.arguments[name], defaults[name]))
    ]


@cache
def _defaults(op: str) -> Mapping[str, object]:
    """The default values of an operation's arguments by name; none of an own operation, which is a function."""
    arguments = getattr(operation(Call(op, {}, ())), "_schema", _NO_SCHEMA).arguments
    return {argument.name: argument.default_value for argument in arguments if argument.has_default_value()}


def _is_default(argument: Argument, default: object) -> bool:
    default = tuple(default) if isinstance(default, list) else default
    return type(argument) is type(default) and argument == default
