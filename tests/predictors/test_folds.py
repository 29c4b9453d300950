"""Tests of cross-validation's folds, and of evenly spaced rows."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.folds import evenly_spaced, held_out, make_folds, rows_outside
from predictors.linear import MeanPredictor


@pytest.mark.parametrize("n", [3, 6, 23, 100])
def test_folds_part_the_rows_and_each_holds_all_sizes_of_label(n: int) -> None:
    labels = np.random.default_rng(0).random(n)
    folds = make_folds(labels, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(n))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert len(folds) == min(n, 5)
    ranks = labels.argsort().argsort()
    for fold in folds:
        # One of each five neighbours by rank.
        assert len(set(ranks[fold] // len(folds))) == len(fold)


def test_a_row_is_predicted_by_a_model_that_never_saw_it() -> None:
    labels = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 60.0])
    folds = make_folds(labels, np.random.default_rng(0))
    found = held_out(MeanPredictor, np.zeros((6, 1)), labels, folds)
    for fold in folds:
        np.testing.assert_allclose(found.mean[fold], labels[rows_outside(fold, 6)].mean())


@pytest.mark.parametrize(
    ("n", "most", "rows"),
    [
        (0, 3, []),
        (1, 3, [0]),
        (3, 3, [0, 1, 2]),
        (3, 10, [0, 1, 2]),
        (9, 3, [0, 4, 8]),
        (10, 4, [0, 3, 6, 9]),
        (5, 1, [0]),
    ],
)
def test_evenly_spaced_rows_include_the_first_and_the_last(n: int, most: int, rows: list[int]) -> None:
    assert evenly_spaced(n, most).tolist() == rows


def test_gaps_between_evenly_spaced_rows_differ_by_at_most_one() -> None:
    for n in range(2, 200):
        gaps = np.diff(evenly_spaced(n, 17))
        assert gaps.min() >= 1
        assert np.ptp(gaps) <= 1
