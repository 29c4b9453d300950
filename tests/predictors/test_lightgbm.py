"""Tests of boosting on a base's held-out errors."""

from __future__ import annotations

import numpy as np
from lightgbm import LGBMRegressor

from predictors.base import Predictor
from predictors.baselines import lightgbm
from predictors.folds import make_folds
from predictors.label_scales import LabelScale
from predictors.lightgbm import BASELINE, MINIMUM_ROWS, LightGBMPredictor, ResidualBooster
from predictors.linear import RidgePredictor
from tests.contracts.predictor import PredictorContract


class TestDifference(PredictorContract):
    def make(self) -> Predictor:
        return lightgbm(positive=False, seed=0)


class TestRatio(PredictorContract):
    positive = True

    def make(self) -> Predictor:
        return lightgbm(positive=True, seed=0)


def test_trees_alone_are_lightgbms_own() -> None:
    """The oracle is LightGBM's scikit-learn interface, on logarithms."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (60, 4)), rng.uniform(1, 2, 60)
    model = LightGBMPredictor(scale=LabelScale.LOG, seed=3, parameters=BASELINE, rounds=20)
    model.fit(x, y)
    other = LGBMRegressor(n_estimators=20, random_state=3, **BASELINE)
    other.fit(x, np.log(y))
    np.testing.assert_allclose(model.predict(x).mean, np.exp(other.predict(x)), rtol=1e-12)


def test_steps_that_a_line_misses_are_learnt() -> None:
    """Latency in steps of sixteen channels: what MACs cannot say."""
    rng = np.random.default_rng(0)

    def latency(x: np.ndarray) -> np.ndarray:
        return np.asarray(5 + x[:, 0] + 2.0 * (x[:, 1] > 0.5))

    x, new = rng.random((150, 6)), rng.random((300, 6))
    y, base, booster = latency(x), RidgePredictor(), ResidualBooster(seed=0)
    base.fit(x, y)
    folds = make_folds(y, rng)
    booster.fit(x, y - base.held_out(folds).mean, folds)
    assert booster.rounds > 0
    mean = base.predict(new).mean
    error = np.abs(mean + booster.predict(new) - latency(new)).mean()
    assert error < 0.6 * np.abs(mean - latency(new)).mean()


def test_errors_of_noise_grow_no_trees() -> None:
    rng = np.random.default_rng(1)
    x, errors, booster = rng.random((80, 6)), 0.1 * rng.standard_normal(80), ResidualBooster(seed=0)
    corrections = booster.fit(x, errors, make_folds(errors, rng))
    assert booster.rounds == 0
    assert not corrections.any()
    assert not booster.predict(x).any()


def test_few_rows_grow_no_trees() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((MINIMUM_ROWS - 1, 3))
    errors, booster = np.where(x[:, 0] > 0.5, 2.0, 0.0), ResidualBooster(seed=0)
    booster.fit(x, errors, make_folds(errors, rng))
    assert booster.rounds == 0
