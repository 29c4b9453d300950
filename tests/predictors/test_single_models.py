"""The predictors that searches name, and the scales of labels that each model accepts."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from predictors.base import Predictor
from predictors.baselines import ConformalPredictor
from predictors.errors import PredictorError
from predictors.feature_columns import FeatureLayout
from predictors.folds import make_folds
from predictors.kernel_process import KernelProcess
from predictors.label_scales import LabelScale
from predictors.lightgbm import LightGBMPredictor
from predictors.linear import MeanPredictor, RidgePredictor
from predictors.registry import PREDICTORS, load_predictor
from tests.contracts.predictor import D, PredictorContract, labels_of, rows

LAYOUT = FeatureLayout(macs=None, aggregates=(0, 1), groups=(-1,) * 4 + (0,) * 3)


def made(name: str, *, positive: bool) -> Predictor:
    """The shipped predictor of a name."""
    make = load_predictor(name)
    arguments = {"layout": LAYOUT, "n_columns": D, "positive": positive, "seed": 0}
    taken = inspect.signature(make).parameters
    predictor: Predictor = make(**{key: value for key, value in arguments.items() if key in taken})
    return predictor


class TestConformalGaussianProcess(PredictorContract):
    def make(self) -> Predictor:
        return ConformalPredictor(
            lambda: made("gaussian-process", positive=False), positive=False, seed=0, closed_form=True
        )


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_named_predictor_ranks_new_rows(name: str) -> None:
    new = rows(100, seed=9)
    model = made(name, positive=True)
    model.fit(rows(), labels_of(rows()))
    predicted, exact = model.predict(new).mean, labels_of(new, noise=0.0)
    assert np.corrcoef(predicted, exact)[0, 1] > 0.9


def test_closed_forms_of_held_out_predictions_are_those_of_fits_without_each_fold() -> None:
    x, y = rows(), labels_of(rows())
    make = lambda: made("ridge", positive=False)  # noqa: E731
    closed, refitted = (
        ConformalPredictor(make, positive=False, seed=1, closed_form=closed_form) for closed_form in (True, False)
    )
    for model in (closed, refitted):
        model.fit(x, y)
    first, second = closed.quality("ridge"), refitted.quality("ridge")
    assert first.model == "ridge"
    assert first.n == len(y)
    assert first.scores.rmse == pytest.approx(second.scores.rmse, rel=0.05)  # the penalty is that of all rows
    assert first.ridge == second.ridge


def test_the_quality_is_that_of_predictions_without_their_fold() -> None:
    x, y = rows(), labels_of(rows())
    model = ConformalPredictor(lambda: made("lightgbm", positive=False), positive=False, seed=2)
    model.fit(x, y)
    predicted = np.empty_like(y)
    for fold in make_folds(y, np.random.default_rng(2)):
        training = np.setdiff1d(np.arange(len(y)), fold)
        single = made("lightgbm", positive=False)
        single.fit(x[training], y[training])
        predicted[fold] = single.predict(x[fold]).mean
    assert model.quality("lightgbm").scores.rmse == pytest.approx(float(np.sqrt(np.mean((predicted - y) ** 2))))


def test_scales_that_a_model_does_not_fit_are_rejected() -> None:
    for scale in (LabelScale.RELATIVE, LabelScale.BEST):
        with pytest.raises(PredictorError, match=f"LightGBM .*{scale.name}; expected PLAIN, LOG"):
            LightGBMPredictor(scale=scale, seed=0)
    with pytest.raises(PredictorError, match=r"ridge regression .*BEST; expected PLAIN, RELATIVE, LOG"):
        RidgePredictor(scale=LabelScale.BEST)
    with pytest.raises(PredictorError, match=r"the mean .*BEST"):
        MeanPredictor(scale=LabelScale.BEST)
    with pytest.raises(PredictorError, match=r"a Gaussian process .*RELATIVE"):
        KernelProcess(scale=LabelScale.RELATIVE, lines=(), smooth=range(2))
