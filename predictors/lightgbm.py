"""LightGBM alone, and on the errors of a base predictor (the only module that imports LightGBM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np

from predictors.base import Array, Prediction, query_array, training_arrays
from predictors.folds import Folds, rest
from predictors.intervals import Spread
from predictors.label_scales import LabelScale

ROUNDS: tuple[int, ...] = tuple(range(0, 201, 25))
"""Numbers of trees that cross-validation chooses from; 0 is the base alone."""
MINIMUM_ROWS = 20
"""Rows below which no tree is grown: leaves of five rows need a few of them in every fold."""
BASELINE: Mapping[str, Any] = {
    "objective": "regression",
    "min_data_in_leaf": 5,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
"""LightGBM's defaults, except for the size of leaves."""
BASELINE_ROUNDS = 100
PARAMETERS: Mapping[str, Any] = {
    **BASELINE,
    "num_leaves": 4,
    "min_data_in_bin": 1,
    "learning_rate": 0.1,
    "lambda_l2": 0.1,
    "feature_fraction": 0.7,
}
"""Chosen on published latency tables with 25 to 200 rows; many rounds of very small trees."""
ALONE: Mapping[str, Any] = {**PARAMETERS, "feature_fraction": 0.4}
"""For trees without a base. Each uses fewer columns: among hundreds, a few would hide the others."""
ALONE_ROUNDS = 150


class LightGBMPredictor:
    """LightGBM (Ke et al. 2017) on the labels, PLAIN or LOG, with a fixed number of small trees (`rounds`)."""

    minimum_rows = 6

    def __init__(
        self, *, scale: LabelScale, seed: int, parameters: Mapping[str, Any] = ALONE, rounds: int = ALONE_ROUNDS
    ) -> None:
        self._scale, self._parameters, self._rounds = scale, {**parameters, "seed": seed}, rounds
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,)."""
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self._scale.positive)
        targets = np.log(y) if self._scale is LabelScale.LOG else y
        self._model = _train(self._parameters, x, targets, self._rounds)
        # In-sample; `ConformalPredictor` gives calibrated intervals.
        self._spread = Spread.of(targets - _predict(self._model, x, self._rounds))
        self._n_columns = x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d)."""
        x = query_array(features, self._n_columns)
        targets = _predict(self._model, x, self._rounds)
        ratio = self._scale is LabelScale.LOG
        return self._spread.around(np.exp(targets) if ratio else targets, ratio=ratio)


class ResidualBooster:
    """LightGBM (Ke et al. 2017) on a base's held-out errors, with the number of rounds by cross-validation."""

    def __init__(self, *, seed: int) -> None:
        self._parameters = {**PARAMETERS, "seed": seed}
        self._model: lightgbm.Booster | None = None
        self.rounds = 0

    def fit(self, features: Array, errors: Array, folds: Folds) -> Array:
        """Learns features (n, d) -> errors (n,); returns each row's correction by trees grown without its fold, or zeros."""
        self.rounds, self._model = 0, None
        none = np.zeros_like(errors)
        if len(errors) < MINIMUM_ROWS:
            return none
        corrections = np.zeros((len(ROUNDS), len(errors)))
        for fold in folds:
            training = rest(fold, len(errors))
            model = _train(self._parameters, features[training], errors[training], ROUNDS[-1])
            for i, rounds in enumerate(ROUNDS[1:], 1):
                corrections[i, fold] = _predict(model, features[fold], rounds)
        losses = np.abs(errors - corrections)  # (rounds, n)
        best = int(np.argmin(losses.mean(axis=1)))
        improvement = losses[0] - losses[best]
        # The least of many noisy errors is below the base's by chance alone.
        if best == 0 or improvement.mean() <= improvement.std() / np.sqrt(len(improvement)):
            return none
        self.rounds = ROUNDS[best]
        self._model = _train(self._parameters, features, errors, self.rounds)
        held: Array = corrections[best]
        return held

    def predict(self, features: Array) -> Array:
        """Corrections (m,), in the terms of the errors."""
        return np.zeros(len(features)) if self._model is None else _predict(self._model, features, self.rounds)


def _train(parameters: dict[str, Any], features: Array, labels: Array, rounds: int) -> lightgbm.Booster:
    return lightgbm.train(parameters, lightgbm.Dataset(features, labels, params=parameters), rounds)


def _predict(model: lightgbm.Booster, features: Array, rounds: int) -> Array:
    if not len(features):  # which LightGBM rejects
        return np.empty(0)
    return np.asarray(model.predict(features, num_iteration=rounds, num_threads=1), dtype=np.float64)
