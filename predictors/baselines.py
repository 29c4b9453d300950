"""Baselines of `AutoPredictor`: the usual predictors with their usual settings, and their conformal intervals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from predictors.base import Array, Prediction, Predictor, query_array, training_arrays
from predictors.candidate_models import Candidate
from predictors.folds import make_folds
from predictors.intervals import Spread
from predictors.kernel_process import KernelProcess
from predictors.label_scales import Bounds, LabelScale, errors_of
from predictors.lightgbm import BASELINE, BASELINE_ROUNDS, LightGBMPredictor
from predictors.quality import Quality, Scores


class ConformalPredictor:
    """A predictor's mean, with a conformal 90 % interval from five-fold cross-validation (see `Spread.of`).

    Args:
        make: Makes the unfitted predictor; must be deterministic.
        positive: labels are above zero, and errors count as ratios.
        seed: Seed of the folds.
        minimum_rows: Number of rows that a fit needs; four fifths of them must do for the predictor.
        closed_form: Held-out predictions of linear models and Gaussian processes are closed forms, which take no further fits.
    """

    def __init__(
        self,
        make: Callable[[], Predictor],
        *,
        positive: bool,
        seed: int,
        minimum_rows: int = 8,
        closed_form: bool = False,
    ) -> None:
        self._candidate, self._ratio = Candidate("", make, refits=not closed_form), positive
        self._seed, self.minimum_rows = seed, minimum_rows
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,)."""
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self._ratio)
        self._bounds = Bounds.of(y, ratio=self._ratio)
        folds = make_folds(y, np.random.default_rng(self._seed))
        self._model, prediction = self._candidate.tried(x, y, fine=folds, coarse=folds)
        mean = self._bounds.clip(prediction.mean)
        self._spread = Spread.of(errors_of(y, mean, ratio=self._ratio))
        self._training = x, y, Scores.held_out(y, mean, folds, ratio=self._ratio), folds
        self._n_columns = x.shape[1]

    def quality(self, name: str) -> Quality:
        """Cross-validated quality of the last fit, under the name of its model, with that of the baselines."""
        return Quality.cross_validated(name, *self._training, ratio=self._ratio)

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
