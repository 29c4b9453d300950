"""Tests of LightGBM as a predictor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMRegressor

from predictors.base import Predictor
from predictors.baselines import lightgbm
from predictors.label_scales import LabelScale
from predictors.lightgbm import BASELINE, LINEAR_LEAVES, LightGBMPredictor
from tests.contracts.predictor import PredictorContract


class TestDifference(PredictorContract):
    def make(self) -> Predictor:
        return lightgbm(positive=False, seed=0)


class TestRatio(PredictorContract):
    positive = True

    def make(self) -> Predictor:
        return lightgbm(positive=True, seed=0)


@pytest.mark.parametrize("parameters", [BASELINE, LINEAR_LEAVES], ids=["constant", "linear"])
def test_trees_are_lightgbms_own(parameters: Mapping[str, Any]) -> None:
    """The oracle is LightGBM's scikit-learn interface, on logarithms."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (60, 4)), rng.uniform(1, 2, 60)
    model = LightGBMPredictor(scale=LabelScale.LOG, seed=3, parameters=parameters, rounds=20)
    model.fit(x, y)
    other = LGBMRegressor(n_estimators=20, random_state=3, **parameters)
    other.fit(x, np.log(y))
    np.testing.assert_allclose(model.predict(x).mean, np.exp(other.predict(x)), rtol=1e-12)
