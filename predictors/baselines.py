"""Baselines of `AutoPredictor`: the usual predictors with their usual settings, and their conformal intervals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from predictors.base import Array, Prediction, Predictor, query_array, training_arrays
from predictors.folds import held_out, make_folds
from predictors.intervals import Spread
from predictors.kernel_process import KernelProcess
from predictors.label_scales import Bounds, LabelScale, errors_of
from predictors.lightgbm import BASELINE, BASELINE_ROUNDS, LightGBMPredictor


class ConformalPredictor:
    """A predictor's mean, with a conformal 90 % interval from five-fold cross-validation (see `Spread.of`).

    Args:
        make: Makes the unfitted predictor; must be deterministic.
        positive: labels are above zero, and errors count as ratios.
        seed: Seed of the folds.
        minimum_rows: Number of rows that a fit needs; four fifths of them must do for the predictor.
    """

    def __init__(self, make: Callable[[], Predictor], *, positive: bool, seed: int, minimum_rows: int = 8) -> None:
        self._make, self._ratio, self._seed, self.minimum_rows = make, positive, seed, minimum_rows
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,)."""
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self._ratio)
        self._bounds = Bounds.of(y, ratio=self._ratio)
        folds = make_folds(y, np.random.default_rng(self._seed))
        mean = self._bounds.clip(held_out(self._make, x, y, folds).mean)
        self._spread = Spread.of(errors_of(y, mean, ratio=self._ratio))
        self._model = self._make()
        self._model.fit(x, y)
        self._n_columns = x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d)."""
        x = query_array(features, self._n_columns)
        return self._spread.around(self._bounds.clip(self._model.predict(x).mean), ratio=self._ratio)


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
        seed: Seed of LightGBM and of the folds of the interval.
    """
    trees = partial(LightGBMPredictor, scale=LabelScale.PLAIN, seed=seed, parameters=BASELINE, rounds=BASELINE_ROUNDS)
    return ConformalPredictor(trees, positive=positive, seed=seed)
