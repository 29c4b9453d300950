"""Ranking by violation, front and crowding."""

from __future__ import annotations

import numpy as np
import pytest

from nas.search.problem.pareto import Array
from nas.search.ranking import crowding, first_front, survivors


def fronts_of(values: Array) -> list[int]:
    """The number of each row's front, by comparing all pairs again and again."""
    ranks, left, rank = [-1] * len(values), set(range(len(values))), 0
    while left:
        beaten = {
            i for i in left for j in left if (values[j] <= values[i]).all() and (values[j] < values[i]).any()
        }  # fmt: skip
        for i in left - beaten:
            ranks[i] = rank
        left, rank = beaten, rank + 1
    return ranks


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_that_of_violation_then_front(seed: int, n_objectives: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, (40, n_objectives)).astype(np.float64)  # with ties and duplicates
    violations = np.where(rng.random(40) < 0.5, 0.0, rng.integers(1, 4, 40) / 2)
    order = survivors(values, 40, violations)
    assert sorted(order.tolist()) == list(range(40))
    found, expected = [], []
    for violation in np.unique(violations):
        group = np.flatnonzero(violations == violation)
        expected += [(violation, rank) for rank in sorted(fronts_of(values[group]))]
        ranks = dict(zip(group.tolist(), fronts_of(values[group]), strict=True))
        found += [(violations[i], ranks[i]) for i in order if violations[i] == violation]
    assert [(violations[i]) for i in order] == sorted(violations)
    assert found == expected
    assert survivors(values, 7, violations).tolist() == order[:7].tolist()


def test_within_a_front_the_ends_come_first_and_then_the_least_crowded() -> None:
    values = np.array([[0.0, 4.0], [1.0, 3.0], [1.1, 2.9], [3.0, 1.0], [4.0, 0.0]])
    # Gaps around a row over the ranges: row 1 (1.1 + 1.1) / 4, row 2 (2 + 2) / 4, row 3 (2.9 + 2.9) / 4.
    assert crowding(values).tolist() == pytest.approx([np.inf, 0.55, 1.0, 1.45, np.inf])
    assert survivors(values, 5).tolist() == [0, 4, 3, 2, 1]


def test_the_first_front_is_of_the_feasible_or_else_of_the_least_violation() -> None:
    values = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])
    assert first_front(values, np.array([1.0, 0.0, 0.0, 0.0])).tolist() == [False, True, True, False]
    assert first_front(values, np.array([3.0, 2.0, 2.0, 1.0])).tolist() == [False, False, False, True]
    assert first_front(np.empty((0, 2)), np.empty(0)).tolist() == []


def test_no_rows_have_no_survivors() -> None:
    assert survivors(np.empty((0, 2)), 3).tolist() == []
    assert survivors(np.empty((0, 2)), 3, np.empty(0)).tolist() == []
