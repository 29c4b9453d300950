"""Registration of the rules of own operations, see `supernets.networks.own_operations`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supernets.networks.capture.program import Argument, Call, Ref
from supernets.networks.lowering.state import Lowering
from supernets.networks.operations.registry import Rule, WorkRule, lowers, rule_of, work_of
from supernets.networks.own_operations import NAMESPACE

OnnxRule = Callable[..., Any]
"""Appends an operation's nodes to a graph: (graph, arguments by the names of the schema) -> the value, or a tuple of values."""


def own_rule(name: str, neutral: tuple[str, ...] = ()) -> Callable[[Rule], Rule]:
    """Registers the rule of dimensions of an own operation, as of `rule_of`."""
    return rule_of(f"{NAMESPACE}.{name}", neutral=neutral)


def own_work(name: str) -> Callable[[WorkRule], WorkRule]:
    """Registers the work of an own operation, as of `work_of`."""
    return work_of(f"{NAMESPACE}.{name}")


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
