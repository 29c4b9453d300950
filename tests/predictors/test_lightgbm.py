"""Tests of boosting on a base's held-out errors."""

from __future__ import annotations

from functools import partial

import numpy as np
from lightgbm import LGBMRegressor

from predictors.lightgbm import BASELINE, MINIMUM_ROWS, LightGBMPredictor, LightGBMResidual
from predictors.linear import RidgePredictor
from predictors.scale import LabelScale
from tests.contracts.predictor import PredictorContract

RELATIVE = partial(RidgePredictor, scale=LabelScale.RELATIVE)


class TestDifference(PredictorContract):
    def make(self) -> LightGBMResidual:
        return LightGBMResidual(RidgePredictor, positive=False, seed=0)


class TestRatio(PredictorContract):
    positive = True

    def make(self) -> LightGBMResidual:
        return LightGBMResidual(RELATIVE, positive=True, seed=0)


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
    base, boosted = RELATIVE(), LightGBMResidual(RELATIVE, positive=True, seed=0)
    for model in (base, boosted):
        model.fit(x, latency(x))
    assert boosted.rounds > 0
    error = np.abs(boosted.predict(new).mean - latency(new)).mean()
    assert error < 0.6 * np.abs(base.predict(new).mean - latency(new)).mean()


def test_falls_back_to_the_base_where_only_noise_is_left() -> None:
    rng = np.random.default_rng(1)
    x = rng.random((80, 6))
    y = 5 + x @ np.arange(6.0) + 0.1 * rng.standard_normal(80)
    base, boosted = RidgePredictor(), LightGBMResidual(RidgePredictor, positive=False, seed=0)
    for model in (base, boosted):
        model.fit(x, y)
    assert boosted.rounds == 0
    np.testing.assert_array_equal(boosted.predict(x).mean, base.predict(x).mean)


def test_few_rows_grow_no_trees() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((MINIMUM_ROWS - 1, 3))
    model = LightGBMResidual(RidgePredictor, positive=False, seed=0)
    model.fit(x, np.where(x[:, 0] > 0.5, 2.0, 0.0))
    assert model.rounds == 0
