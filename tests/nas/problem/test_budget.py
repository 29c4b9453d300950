"""Budgets and their extension."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.problem.budget import Budget, Plateau, Spent, extend_budget
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
        (ENDED, "99", None, "invalid", ("--evaluations 99", "100")),
        (INTERRUPTED, "33", None, "invalid", ("--evaluations 33", "34")),
        (INTERRUPTED, None, "3", "invalid", ("--minutes 3", "4")),
        (ENDED, "100", None, "used-up", ("100 evaluations", "--evaluations +50")),
        (ENDED, None, "+10", "used-up", ("100 evaluations",)),
        (Spent(60, 601.0, ended=True), "+50", None, "used-up", ("10 minutes", "--minutes +10")),
        (ENDED, "+0", None, "invalid", ("--evaluations +0",)),
        (ENDED, "-5", None, "invalid", ("--evaluations -5",)),
        (ENDED, "many", None, "invalid", ("--evaluations many", "whole number")),
        (ENDED, "2.5", None, "invalid", ("--evaluations 2.5", "whole number")),
        (ENDED, None, "nan", "invalid", ("--minutes nan",)),
        (ENDED, "9999999999", None, "invalid", ("--evaluations 9999999999",)),
    ],
)
def test_a_budget_that_leaves_nothing_is_rejected(
    spent: Spent, evaluations: str | None, minutes: str | None, kind: str, values: tuple[str, ...]
) -> None:
    with raises(f"budget.{kind}", *values):
        extend_budget(BUDGET, spent, evaluations=evaluations, minutes=minutes)
