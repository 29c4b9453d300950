"""Arguments of `nas.optimize` that are wrong are named, with what was expected."""

from __future__ import annotations

from typing import Any

import pytest

import nas
from nas.runs.optimization.arguments import parse_budget, parse_constraints, parse_objectives, parse_space
from tests.errors import raises
from tests.nas.runs.optimization.small_search import OBJECTIVES, SPACE, evaluate


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": [1, 2]}, ["space is [1, 2]", "SearchSpace"]),
        ({"space": {"depth": 3}}, ["space['depth'] is 3", "list of options"]),
        ({"space": {"depth": "abc"}}, ["space['depth'] is 'abc'"]),
        ({"space": {"depth": [None]}}, ["space['depth'] is None", "numbers or texts"]),
        ({"objectives": {}}, ["objectives is []", "at least one"]),
        ({"objectives": ["accuracy"]}, ["objectives is ['accuracy']", "maximize"]),
        ({"objectives": {"accuracy": "max"}}, ["objectives['accuracy'] is 'max'", "'maximize' or 'minimize'"]),
        ({"objectives": [nas.Objective("a", "", nas.Goal.MINIMIZE)] * 2}, ["['a', 'a']", "each once"]),
        ({"constraints": {"latency_ms": 2}}, ["constraints['latency_ms'] is 2", "{'max': number}"]),
        ({"constraints": {"latency_ms": {"maximum": 2}}}, ["constraints['latency_ms']", "{'max': number}"]),
        ({"constraints": {"latency_ms": {"max": "2"}}}, ["constraints['latency_ms'] is '2'", "numbers"]),
        ({"constraints": {"latency_ms": {"max": float("nan")}}}, ["constraints['latency_ms']", "finite"]),
        ({"constraints": {"latency_ms": {"min": 3, "max": 2}}}, ["at least 3 and at most 2"]),
        ({"constraints": "latency_ms<2"}, ["constraints is 'latency_ms<2'"]),
        ({"evaluator": 3}, ["evaluator is '3'", "a function"]),
        ({"store": 5}, ["store is 5", "a path"]),
        ({"parallel": 4}, ["parallel is 4", "nas.RayWorkers(n)"]),
        ({"parallel": nas.Processes}, ["parallel is", "nas.Processes(n)"]),
        ({"algorithm": 3}, ["algorithm is 3", "a name, a class or an object"]),
        ({"budget": 0}, ["budget is 0", "at least 1"]),
        ({"budget": "ten"}, ["budget is 'ten'"]),
        ({"seed": -1}, ["seed is -1", "at least 0"]),
        ({"batch": 0}, ["batch is 0", "at least 1"]),
    ],
)
def test_a_wrong_argument_is_named(changes: dict[str, Any], words: list[str]) -> None:
    given: dict[str, Any] = {"space": SPACE, "objectives": OBJECTIVES, "evaluator": evaluate, "progress": False}
    with raises("optimize.invalid", *words):
        nas.optimize(**{**given, **changes})


def test_choices_without_options_or_twice_the_same_are_rejected_by_the_space() -> None:
    with raises("space.invalid", "depth"):
        parse_space({"depth": []})
    with raises("space.invalid", "depth"):
        parse_space({"depth": [1, 1]})
    with raises("space.invalid"):
        parse_space({})


def test_short_forms_make_the_values_of_the_long_ones() -> None:
    assert parse_space({"a": [1, 2]}) == nas.SearchSpace([nas.Choice("a", (1, 2))])
    accuracy = nas.Objective("accuracy", "", nas.Goal.MAXIMIZE)
    assert parse_objectives({"accuracy": "maximize"}) == parse_objectives([accuracy]) == (accuracy,)
    size = nas.Objective("size", "", nas.Goal.MINIMIZE)
    short = parse_constraints({"size": {"max": 3}, "accuracy": {"min": 0.5, "max": 1}}, [accuracy])
    assert short == (nas.Constraint(size, maximum=3), nas.Constraint(accuracy, 0.5, 1))
    assert parse_budget(7) == nas.Budget(7)
