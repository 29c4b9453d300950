"""Tests of the weights of models."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.base import Array
from predictors.folds import make_folds, rows_outside
from predictors.model_selection import MIN_WEIGHT, cross_combined, ensemble_weights, errors_by_model

LABELS = np.random.default_rng(0).uniform(1, 2, 200)


def weights_of(means: Array, *, ratio: bool = False) -> Array:
    return ensemble_weights(LABELS, means, np.random.default_rng(0), ratio=ratio)


@pytest.mark.parametrize("ratio", [True, False])
def test_one_exact_model_has_all_the_weight(ratio: bool) -> None:
    means = np.stack([LABELS * 1.1, LABELS, np.full(200, 1.5)])
    np.testing.assert_array_equal(weights_of(means, ratio=ratio), [0, 1, 0])


def test_models_that_err_independently_share_it() -> None:
    means = LABELS + 0.1 * np.random.default_rng(1).standard_normal((4, 200))
    weights = weights_of(means)
    assert weights.min() > 0.1
    alone = np.abs(means - LABELS).mean(axis=1).min()
    assert np.abs(weights @ means - LABELS).mean() < 0.65 * alone  # a half, where all are equal


def test_bad_models_are_dropped_and_weights_sum_to_one() -> None:
    noise = np.random.default_rng(2).standard_normal((8, 200))
    weights = weights_of(LABELS + noise * np.geomspace(0.01, 1, 8)[:, None], ratio=True)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] == weights.max()
    assert weights[4:].sum() == 0
    assert ((weights == 0) | (weights >= MIN_WEIGHT)).all()


def test_errors_are_relative_where_they_are_ratios() -> None:
    labels, mean = np.array([2.0, 4.0]), np.array([3.0, 3.0])
    np.testing.assert_allclose(errors_by_model(labels, mean, ratio=True), [0.5, -0.25])
    np.testing.assert_allclose(errors_by_model(labels, mean, ratio=False), [1.0, -1.0])


def test_each_fold_is_combined_by_weights_that_have_not_seen_it() -> None:
    labels = LABELS[:30]
    means = labels + 0.3 * np.random.default_rng(2).standard_normal((6, 30))
    folds = make_folds(labels, np.random.default_rng(0))
    found = cross_combined(labels, means, folds, np.random.default_rng(7), ratio=False)
    rng = np.random.default_rng(7)
    for fold in folds:
        others = rows_outside(fold, 30)
        np.testing.assert_allclose(
            found[fold], ensemble_weights(labels[others], means[:, others], rng, ratio=False) @ means[:, fold]
        )
        changed = labels.copy()
        changed[fold] += 5.0
        again = cross_combined(changed, means, folds[:1], np.random.default_rng(7), ratio=False)
        if fold is folds[0]:
            np.testing.assert_array_equal(again[fold], found[fold])
