"""Tests of the mean baseline."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.mean import MeanPredictor
from predictors.scale import LabelScale
from tests.contracts.predictor import PredictorContract


class TestPlain(PredictorContract):
    learns = False

    def make(self) -> MeanPredictor:
        return MeanPredictor()


class TestLog(PredictorContract):
    learns, positive = False, True

    def make(self) -> MeanPredictor:
        return MeanPredictor(scale=LabelScale.LOG)


@pytest.mark.parametrize(
    ("scale", "expected"),
    # By hand for labels 1, 2, 4; relative: sum(1/y) / sum(1/y²) = 1.75 / 1.3125.
    [(LabelScale.PLAIN, 7 / 3), (LabelScale.LOG, 2.0), (LabelScale.RELATIVE, 4 / 3)],
)
def test_each_scale_has_its_mean(scale: LabelScale, expected: float) -> None:
    model = MeanPredictor(scale=scale)
    model.fit(np.zeros((3, 1)), np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(model.predict(np.zeros((2, 1))).mean, expected, rtol=1e-12)
