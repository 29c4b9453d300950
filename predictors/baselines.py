"""The usual predictors, as others would use them: what the automatic one is compared with."""

from __future__ import annotations

from functools import partial

from predictors.base import Predictor
from predictors.conformal import ConformalPredictor
from predictors.gaussian_process import GaussianProcessPredictor
from predictors.lightgbm import BASELINE, BASELINE_ROUNDS, LightGBMPredictor
from predictors.linear import RidgePredictor
from predictors.mean import MeanPredictor
from predictors.scale import LabelScale


def mean() -> Predictor:
    """The average."""
    return MeanPredictor()


def ridge() -> Predictor:
    """Ridge regression on the labels as they are, its penalty by leave-one-out."""
    return RidgePredictor()


def gaussian_process() -> Predictor:
    """A Gaussian process on the labels as they are, with one length, by maximum likelihood."""
    return GaussianProcessPredictor()


def lightgbm(*, positive: bool, seed: int) -> Predictor:
    """LightGBM with its own defaults, but leaves of five rows: with its twenty it learns nothing from 25.

    Args:
        positive: labels are above zero, and the interval is one of ratios.
        seed: of LightGBM and of the folds of the interval.
    """
    trees = partial(LightGBMPredictor, scale=LabelScale.PLAIN, seed=seed, parameters=BASELINE, rounds=BASELINE_ROUNDS)
    return ConformalPredictor(trees, positive=positive, seed=seed)
