"""Pareto fronts against brute force, hand-computed volumes and pymoo."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pymoo.indicators.hv import HV
from pymoo.util.dominator import Dominator
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from nas.search.problem.pareto import (
    GrowingVolume,
    hypervolume,
    hypervolume_history,
    knee,
    non_dominated,
    reference_point,
)

Array = NDArray[np.float64]
FEW = st.integers(-3, 3).map(float)  # few values: many ties and duplicates
ODD = st.sampled_from([float("nan"), float("inf"), float("-inf"), -1.0, 0.0, -0.0, 1.0, 2.0])


def rows_of(elements: st.SearchStrategy[float], most: int = 12) -> st.SearchStrategy[Array]:
    return st.integers(1, 4).flatmap(
        lambda m: arrays(np.float64, st.tuples(st.integers(0, most), st.just(m)), elements=elements)
    )


def some_rows(most: int = 12) -> st.SearchStrategy[Array]:
    """Rows with ties and duplicates, odd values and any fractions, between them."""
    fractions = st.floats(-2.0, 2.0, width=16)
    return rows_of(FEW, most) | rows_of(ODD, most) | rows_of(FEW | ODD | fractions, most)


def dominated_by_hand(values: Array) -> list[bool]:
    def dominates(a: Array, b: Array) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))

    return [not any(np.isnan(row)) and not any(dominates(other, row) for other in values) for row in values]


def volume_by_cells(values: Array, reference: Array) -> float:
    """Counts the unit cells of an integer grid that some row dominates."""
    corner = np.stack(np.meshgrid(*[np.arange(-3, int(r)) for r in reference], indexing="ij"), -1)
    covered = np.zeros(corner.shape[:-1], dtype=bool)
    for row in values:
        covered |= (row <= corner).all(axis=-1)
    return float(covered.sum())


def volume_by_inclusion(values: Array, reference: Array) -> float:
    """Adds the rows' boxes, subtracts what two share, adds what three share, ..."""
    inside = [row for row in values if (row < reference).all()]
    return sum(
        -((-1.0) ** k) * float(np.prod(reference - np.maximum.reduce(some)))
        for k in range(1, len(inside) + 1)
        for some in combinations(inside, k)
    )


@given(some_rows())
def test_non_dominated_rows_are_those_that_no_row_dominates(values: Array) -> None:
    assert non_dominated(values).tolist() == dominated_by_hand(values)


@given(some_rows(most=40))
def test_non_dominated_rows_are_the_first_front_of_pymoo(values: Array) -> None:
    numbers = np.flatnonzero(~np.isnan(values).any(axis=1))  # pymoo would keep a row with a NaN
    # By its dominance matrix: its other way, compiled, may crash on infinities.
    fronts = NonDominatedSorting(dominator=Dominator()).do(values[numbers]) if len(numbers) else [[]]
    assert np.flatnonzero(non_dominated(values)).tolist() == sorted(numbers[np.asarray(fronts[0], dtype=int)].tolist())


@given(some_rows(), st.integers(0, 1000))
def test_neither_order_nor_repetition_changes_a_front(values: Array, seed: int) -> None:
    rng, numbers = np.random.default_rng(seed), np.arange(len(values))
    order = rng.permutation(np.concatenate([numbers, numbers[rng.random(len(numbers)) < 0.5]]))
    again = values[order]
    assert non_dominated(again).tolist() == non_dominated(values)[order].tolist()
    reference = np.full(values.shape[1], 1.5)
    # 1e-9: the same volumes are added in another order.
    assert hypervolume(again, reference) == pytest.approx(hypervolume(values, reference), rel=1e-9, abs=1e-9)


@given(rows_of(FEW), st.integers(-2, 4))
def test_volume_equals_the_number_of_unit_cells(values: Array, corner: int) -> None:
    reference = np.full(values.shape[1], float(corner))
    assert hypervolume(values, reference) == pytest.approx(volume_by_cells(values, reference), abs=1e-9)


@given(some_rows(most=7))
def test_volume_is_that_of_the_union_of_boxes(values: Array) -> None:
    reference = np.full(values.shape[1], 1.5)
    infinite = any((row < reference).all() and np.isneginf(row).any() for row in values)
    expected = np.inf if infinite else volume_by_inclusion(values, reference)
    assert hypervolume(values, reference) == pytest.approx(expected, abs=1e-9)


@given(some_rows(most=40))
def test_volume_equals_that_of_pymoo(values: Array) -> None:
    reference = np.full(values.shape[1], 1.25)
    finite = values[~np.isnan(values).any(axis=1) & ~np.isneginf(values).any(axis=1)]
    expected = float(HV(ref_point=reference)(finite)) if len(finite) else 0.0
    assert hypervolume(finite, reference) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_volume_of_many_rows_equals_that_of_pymoo(m: int) -> None:
    rng = np.random.default_rng(m)
    directions = np.abs(rng.standard_normal((60, m)))
    curved = 1.0 - directions / np.linalg.norm(directions, axis=1, keepdims=True)  # all of them on the front
    for values in (rng.random((200, m)) * 1.2, curved, np.round(curved, 1)):  # beyond the reference, fractions, ties
        expected = float(HV(ref_point=np.ones(m))(values))
        # 1e-9: the two add the same volumes in another order.
        assert hypervolume(values, np.ones(m)) == pytest.approx(expected, rel=1e-9)
        assert hypervolume_history(values, np.ones(m))[-1] == pytest.approx(expected, rel=1e-9)


@given(some_rows())
def test_history_is_the_volume_of_each_beginning(values: Array) -> None:
    reference = np.full(values.shape[1], 2.5)
    expected = [hypervolume(values[: i + 1], reference) for i in range(len(values))]
    assert hypervolume_history(values, reference).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_long_history_adds_row_by_row(m: int) -> None:
    rng = np.random.default_rng(m)
    values = rng.random((700, m)) * np.linspace(1.2, 0.8, 700)[:, None]  # later rows, too, lead
    values[::9] = np.round(values[::9], 1)
    values[5::70] = np.nan
    for endless in ([], [600]):
        values[endless, 0] = -np.inf
        growing = GrowingVolume(np.ones(m))
        assert hypervolume_history(values, np.ones(m)).tolist() == [growing.add(row) for row in values]


@pytest.mark.parametrize("m", [2, 3])
def test_long_history_ends_at_the_volume(m: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((10_000, m))
    history = hypervolume_history(values, np.ones(m))
    assert (np.diff(history) >= 0).all()
    assert history[-1] == pytest.approx(hypervolume(values, np.ones(m)), rel=1e-9)


def test_volume_by_hand() -> None:
    values = np.array([[1.0, 3.0], [2.0, 1.0], [2.0, 1.0], [5.0, 0.0], [np.nan, 0.0]])
    assert hypervolume(values, np.array([4.0, 4.0])) == 3 * 1 + 2 * 2
    assert hypervolume(np.empty((0, 2)), np.ones(2)) == 0.0
    assert hypervolume(np.array([[-np.inf, 0.0]]), np.ones(2)) == np.inf
    assert hypervolume(np.array([[-np.inf, 1.0]]), np.ones(2)) == 0.0


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows, objectives"):
        non_dominated(np.zeros(3))
    with pytest.raises(ValueError, match=r"reference of shape \(2,\), got \(3,\)"):
        hypervolume(np.zeros((1, 2)), np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        hypervolume_history(np.zeros((1, 2)), np.array([1.0, np.nan]))


def test_reference_is_the_worse_value_moved_out() -> None:
    rows = np.array([[-0.8, 1.0, 0.0, 5.0], [-0.85, 6.0, 0.0, 5.0], [-0.9, 11.0, 0.0, 5.0]])
    assert reference_point(rows) == pytest.approx([-0.79, 12.0, 0.1, 5.5])
    assert reference_point(rows[:1]) == pytest.approx([-0.72, 1.1, 0.1, 5.5])
    with pytest.raises(ValueError, match="finite"):
        reference_point(np.array([[np.nan, 1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="rows"):
        reference_point(np.zeros((0, 2)))


def test_knee_is_the_row_farthest_below_the_line() -> None:
    values = np.array([[0.0, 100.0], [1.0, 30.0], [5.0, 20.0], [10.0, 0.0], [6.0, 90.0], [np.nan, 0.0]])
    assert knee(values) == 1
    assert knee(values[:, ::-1]) == 1


def test_a_front_without_a_bend_has_its_knee_at_the_best_of_the_first_objective() -> None:
    values = np.array([[0.0, 10.0], [9.0, 9.0], [9.5, 8.0], [10.0, 0.0]])
    assert knee(values) == 0
    assert knee(values[::-1]) == 3
    assert knee(values[:, ::-1]) == 3


def test_knee_of_few_rows() -> None:
    assert knee(np.array([[3.0, 4.0]])) == 0
    assert knee(np.array([[3.0, 4.0], [4.0, 3.0]])) == 0
    assert knee(np.array([[4.0, 3.0], [3.0, 4.0]])) == 1
    assert knee(np.array([[3.0, 4.0], [3.0, 4.0]])) == 0
    assert knee(np.array([[np.inf, 4.0], [3.0, 3.0]])) == 1
    with pytest.raises(ValueError, match="knee"):
        knee(np.empty((0, 2)))
