"""Budgets, their extension, and why a search stopped."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nas.search.problem.budget import Budget, Plateau, Spent, Stop, StopReason, extend_budget
from tests.errors import raises

BUDGET = Budget(100, 10.0, Plateau(40, 0.001))
INTERRUPTED, ENDED = Spent(34, 240.0, ended=False), Spent(100, 300.0, ended=True)


@pytest.mark.parametrize(
    ("spent", "evaluations", "minutes", "expected"),
    [
        (ENDED, "+50", None, (150, 10.0, 100)),
        (ENDED, "150", None, (150, 10.0, 100)),
        (ENDED, 150, None, (150, 10.0, 100)),
        (INTERRUPTED, "+50", None, (150, 10.0, 34)),
        (INTERRUPTED, "34", None, (34, 10.0, 34)),
        (INTERRUPTED, None, "+5", (100, 15.0, 34)),
        (INTERRUPTED, None, 6, (100, 6.0, 34)),
        (replace(ENDED, evaluations=60), "+50", None, (110, 10.0, 60)),  # it ended at a plateau
        (Spent(60, 600.0, ended=True), None, "+10", (100, 20.0, 60)),  # it ended by its minutes
        (Spent(60, 600.0, ended=True), "+50", "+10", (110, 20.0, 60)),
    ],
)
def test_a_budget_is_extended(
    spent: Spent, evaluations: str | int | None, minutes: str | None, expected: tuple[int, float, int]
) -> None:
    made = extend_budget(BUDGET, spent, evaluations=evaluations, minutes=minutes)
    assert (made.evaluations, made.minutes, made.plateau_from) == expected
    assert Budget.from_json(made.to_json()) == made
    assert made.plateau == BUDGET.plateau


def test_minutes_are_added_to_those_used_where_there_was_no_limit() -> None:
    assert extend_budget(Budget(100), INTERRUPTED, minutes="+5").minutes == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("spent", "evaluations", "minutes", "kind", "values"),
    [
        (ENDED, "99", None, "invalid", ("evaluations 99", "100")),
        (INTERRUPTED, "33", None, "invalid", ("evaluations 33", "34")),
        (INTERRUPTED, None, "3", "invalid", ("minutes 3", "4")),
        (ENDED, "100", None, "used-up", ("100 evaluations",)),
        (ENDED, None, "+10", "used-up", ("100 evaluations",)),
        (Spent(60, 601.0, ended=True), "+50", None, "used-up", ("10 minutes",)),
        (ENDED, "+0", None, "invalid", ("evaluations +0",)),
        (ENDED, "-5", None, "invalid", ("evaluations -5",)),
        (ENDED, "many", None, "invalid", ("evaluations many", "whole number")),
        (ENDED, "2.5", None, "invalid", ("evaluations 2.5", "whole number")),
        (ENDED, None, "nan", "invalid", ("minutes nan",)),
        (ENDED, "9999999999", None, "invalid", ("evaluations 9999999999",)),
    ],
)
def test_a_budget_that_leaves_nothing_is_rejected(
    spent: Spent, evaluations: str | None, minutes: str | None, kind: str, values: tuple[str, ...]
) -> None:
    with raises(f"budget.{kind}", *values):
        extend_budget(BUDGET, spent, evaluations=evaluations, minutes=minutes)


STOPS = {
    "the budget of evaluations is used up": Stop(StopReason.EVALUATIONS),
    "the budget of 1.5 minutes is used up": Stop(StopReason.MINUTES, minutes=1.5),
    "the hypervolume grew by at most 0.01 of it over 40 evaluations": Stop(
        StopReason.PLATEAU, plateau=Plateau(40, 0.01)
    ),
    "every architecture of the space was evaluated": Stop(StopReason.SPACE_EXHAUSTED),
    "that will do": Stop(StopReason.CALLBACK, message="that will do"),
}


@pytest.mark.parametrize(("sentence", "stop"), STOPS.items())
def test_a_stop_is_read_back_equal_also_from_its_sentence(sentence: str, stop: Stop) -> None:
    assert Stop.from_json(json.loads(json.dumps(stop.to_json()))) == stop
    assert Stop.from_json(sentence) == stop  # as version 0.1 stored it
    assert str(stop) == sentence


def test_every_reason_has_its_sentence() -> None:
    assert {stop.reason for stop in STOPS.values()} == set(StopReason)
