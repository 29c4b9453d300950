"""Tests of the baselines: intervals by cross-validation."""

from __future__ import annotations

from functools import partial

import numpy as np

from predictors.base import Predictor
from predictors.baselines import ConformalPredictor, gaussian_process, lightgbm
from predictors.folds import held_out, make_folds
from predictors.label_scales import LabelScale
from predictors.linear import MeanPredictor, RidgePredictor
from tests.contracts.predictor import D, PredictorContract, labels_of, rows


class TestRidge(PredictorContract):
    def make(self) -> Predictor:
        return ConformalPredictor(RidgePredictor, positive=False, seed=0)


def test_the_interval_is_the_rank_of_the_held_out_errors() -> None:
    x, y = rows(), labels_of(rows())
    make = partial(RidgePredictor, scale=LabelScale.LOG)
    model = ConformalPredictor(make, positive=True, seed=3)
    model.fit(x, y)
    errors = np.sort(np.abs(np.log(y / held_out(make, x, y, make_folds(y, np.random.default_rng(3))).mean)))
    found = model.predict(x[:3])
    np.testing.assert_allclose(np.log(found.high / found.mean), errors[36])  # ceil(41 * 0.9) = 37th of 40


def test_baselines_rank_as_expected_on_a_sum() -> None:
    x, new = rows(60), rows(200, seed=9)
    errors = {}
    for name, model in {
        "mean": MeanPredictor(),
        "ridge": RidgePredictor(),
        "gp": gaussian_process(D),
        "lightgbm": lightgbm(positive=True, seed=0),
    }.items():
        model.fit(x, labels_of(x))
        errors[name] = np.abs(model.predict(new).mean / labels_of(new, noise=0.0) - 1).mean()
    assert errors["ridge"] < errors["lightgbm"] < errors["mean"]
    assert errors["gp"] < errors["lightgbm"]
