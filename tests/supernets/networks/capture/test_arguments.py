"""Every argument of every operation in the tables is read by its rule, or declared to be neutral."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import fixed
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.program import Call, Ref
from supernets.networks.capture.tracing import capture
from supernets.networks.operations import LOWERED, RULES
from supernets.networks.operations.arguments import RecordedArguments, unread_arguments
from supernets.networks.own_operations import FUNCTIONS

Rule = Callable[..., None]
# Where such an argument is there, dimensions are fixed, or the lowering is rejected.
REJECTED = {
    **dict.fromkeys(("take_along_dim", "scatter", "index_add"), "every dimension is fixed"),
    **dict.fromkeys(("batch_sizes", "data"), "packed sequences"),
    **dict.fromkeys(("a", "el", "reverse"), "an overload for lists, which no trace of tensors has"),
    **dict.fromkeys(("dtype", "out_dtype"), "a result of another type, which these rules do not convert to"),
    "tensor_indices_or_sections": "the values of a tensor",
}
REJECTED_TYPES = frozenset(("view", "addmm", "baddbmm", "bmm", "mm"))


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | frozenset):
        for part in value:
            yield from texts(part)


def names_in(rule: Rule, seen: set[object] | None = None) -> set[str]:
    """The texts and attributes in a rule and in the functions that it calls."""
    seen = set() if seen is None else seen
    rule = getattr(rule, "__wrapped__", rule)
    if rule in seen:
        return set()
    seen.add(rule)
    assert isinstance(rule, FunctionType)
    names, codes = set(texts(rule.__defaults__ or ())), [rule.__code__]
    while codes:
        code = codes.pop()
        names.update(f".{name}" for name in code.co_names)
        for constant in code.co_consts:
            names.update(texts(constant))
            if isinstance(constant, CodeType):
                codes.append(constant)
        for name in code.co_names:
            called = rule.__globals__.get(name)
            if isinstance(called, FunctionType) and called.__module__.startswith("supernets.networks.operations"):
                names |= names_in(called, seen)
    return names


def schemas(name: str) -> Iterator[Any]:
    """The schemas of an operation's overloads that compute tensors of tensors."""
    if (packet := getattr(torch.ops.aten, name, None)) is None:
        return
    for overload in packet.overloads():
        schema = getattr(packet, overload)._schema
        tensors = any("Tensor" in str(argument.type) for argument in schema.arguments)
        # Older versions of torch have overloads for tensors with named dimensions, whose results no trace has.
        of_names = any("name" in argument.name or argument.name == "out_dim" for argument in schema.arguments)
        if tensors and not of_names and not any(argument.is_out for argument in schema.arguments):
            yield schema


def is_accounted_for(rule: Any, names: set[str], argument: Any) -> bool:
    is_tensor = "Tensor" in str(argument.type)
    return (
        argument.name in names
        or ".items" in names
        or (is_tensor and ".values" in names)
        or argument.name in rule.neutral
        or (not is_tensor and argument.name in rule.neutral_numbers)
    )


@pytest.mark.parametrize("table", [RULES, LOWERED], ids=["dimensions", "onnx"])
def test_a_rule_reads_every_argument_of_its_operation_or_declares_it_neutral(table: dict[str, Rule]) -> None:
    unread = [
        f"{name}({argument.name})"
        for name, rule in table.items()
        for schema in schemas(name)
        for argument in schema.arguments
        if not is_accounted_for(rule, names_in(rule), argument)
        and name not in REJECTED
        and (argument.name not in ("dtype", "out_dtype") or name not in REJECTED_TYPES)
        and (argument.name not in REJECTED or argument.name in ("dtype", "out_dtype"))
    ]
    assert unread == []


def test_tables_have_the_operations_of_torch() -> None:
    assert len(RULES) > 250
    assert len(LOWERED) > 190
    methods = {"bool", "double", "float", "half", "int", "long", "softsign", "swish", "tanhshrink"}
    assert {name for name in RULES.keys() - FUNCTIONS.keys() if not hasattr(torch.ops.aten, name)} <= methods
    assert RULES.keys() >= FUNCTIONS.keys()
    assert LOWERED.keys() >= FUNCTIONS.keys()


def test_arguments_count_as_read_where_a_rule_takes_them() -> None:
    arguments = RecordedArguments({"self": Ref("x"), "dim": 1, "keepdim": True, "value": 2.0})
    assert "dim" in arguments
    assert len(arguments) == 4
    assert arguments.names_read == set()
    assert arguments["dim"] == 1
    assert arguments.get("absent") is None
    assert arguments.names_read == {"dim"}
    list(arguments.values())
    assert arguments.names_read == {"dim", "self"}


def test_an_argument_at_its_default_needs_no_reading() -> None:
    call = Call("aten.add.Tensor", {"self": Ref("x"), "other": Ref("y"), "alpha": 1}, ("%z",))
    assert unread_arguments(call, ("self",), (), ()) == ["other=Ref(name='y')"]
    scaled = Call("aten.add.Tensor", {**call.arguments, "alpha": 2}, ("%z",))
    assert unread_arguments(scaled, ("self", "other"), (), ()) == ["alpha=2"]
    assert unread_arguments(scaled, ("self", "other"), (), ("alpha",)) == []
    assert unread_arguments(scaled, ("self",), (), ("alpha", "other")) == ["other=Ref(name='y')"]


class Summed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x)).sum(1, keepdim=True) * self.first(x))


def test_a_rule_that_ignores_an_argument_fixes_the_dimensions_or_is_no_lowering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from supernets.networks.operations.registry import lowers, rule_of

    found = capture(Summed(), [torch.randn(2, 4)])
    assert infer_axes(found.program).axes
    for table in (RULES, LOWERED):
        monkeypatch.setitem(table, "sum", table["sum"])

    @rule_of("sum")
    def _without_keepdim(ctx: Any, call: Call) -> list[Any]:
        x = ctx.tensor_dims(call.arguments["self"])
        return [x[0], fixed(call.arguments["dim"][0], "a size of 1")]

    @lowers("sum")
    def _of_nothing(low: Any, call: Call) -> Any:
        return low(call.arguments["self"], call.arguments["dim"])

    reasons = list(infer_axes(found.program).fixed)
    assert any("there is no rule for aten.sum.dim_IntList with keepdim=True" in reason for reason in reasons)
    call = next(call for call in found.program.calls if call.name == "sum")
    with pytest.raises(LoweringError, match="with keepdim=True"):
        LOWERED["sum"](lambda *_: None, call)  # type: ignore[arg-type]
