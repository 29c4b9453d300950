"""Registration of the rules of own operations, see `supernets.own_operations`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supernets.capture.lowering.state import Lowering, lowers
from supernets.capture.program import Argument, Call, Ref
from supernets.capture.rules.registry import Rule, rule_of
from supernets.own_operations import NAMESPACE

OnnxRule = Callable[..., Any]
"""Appends an operation's nodes to a graph: (graph, arguments by the names of the schema) -> the value, or a tuple of values."""


def own_rule(name: str) -> Callable[[Rule], Rule]:
    """Registers the rule of dimensions of an own operation."""
    return rule_of(f"{NAMESPACE}.{name}")


def onnx_of(name: str) -> Callable[[OnnxRule], OnnxRule]:
    """Registers the ONNX of an own operation."""

    def register(rule: OnnxRule) -> OnnxRule:
        @lowers(f"{NAMESPACE}.{name}")
        def lower(low: Lowering, call: Call) -> None:
            results = rule(low.graph, **{key: _argument(low, value) for key, value in call.arguments.items()})
            low.assign(call, *(results if isinstance(results, tuple) else (results,)))

        return rule

    return register


def _argument(low: Lowering, argument: Argument) -> Any:
    """An argument with the graph's values in place of references."""
    if isinstance(argument, Ref):
        return low.value(argument.name)
    if isinstance(argument, tuple) and any(isinstance(part, Ref) for part in argument):
        return [_argument(low, part) for part in argument]
    return argument
