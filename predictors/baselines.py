"""Baselines of `AutoPredictor`: the usual predictors with their usual settings."""

from __future__ import annotations

from functools import partial

from predictors.base import Predictor
from predictors.conformal import ConformalPredictor
from predictors.kernel_process import KernelProcess
from predictors.lightgbm import BASELINE, BASELINE_ROUNDS, LightGBMPredictor
from predictors.scale import LabelScale


def gaussian_process(n_columns: int) -> Predictor:
    """A Gaussian process of one length on the labels as they are.

    Its errors on the published tables are within 1 % of those of scikit-learn's, of greatest likelihood; it takes half
    the time.
    """
    return KernelProcess(scale=LabelScale.PLAIN, lines=(), smooth=range(n_columns))


def lightgbm(*, positive: bool, seed: int) -> Predictor:
    """LightGBM with its own defaults, but leaves of five rows: with its twenty it learns nothing from 25.

    Args:
        positive: labels are above zero, and the interval is one of ratios.
        seed: of LightGBM and of the folds of the interval.
    """
    trees = partial(LightGBMPredictor, scale=LabelScale.PLAIN, seed=seed, parameters=BASELINE, rounds=BASELINE_ROUNDS)
    return ConformalPredictor(trees, positive=positive, seed=seed)
