"""LightGBM as a predictor (the only module that imports it)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np

from predictors.base import Array, Prediction, query_array, training_arrays
from predictors.intervals import Spread
from predictors.label_scales import LabelScale, check_scale

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
ALONE: Mapping[str, Any] = {
    **BASELINE,
    "num_leaves": 4,
    "min_data_in_bin": 1,
    "learning_rate": 0.1,
    "lambda_l2": 0.1,
    "feature_fraction": 0.4,
}
"""Chosen on published latency tables with 25 to 200 rows: many rounds of very small trees. Each uses few columns: among
hundreds, a few would hide the others."""
ALONE_ROUNDS = 150
LINEAR_LEAVES: Mapping[str, Any] = {**ALONE, "linear_tree": True, "linear_lambda": 1.0}
"""Each leaf is a line in the columns that lead to it (Shi, Li, Li 2019, arXiv 1802.05640): costs rise within a leaf, too."""


class LightGBMPredictor:
    """LightGBM (Ke et al. 2017) on the labels, PLAIN or LOG, with a fixed number of small trees (`rounds`).

    Args:
        scale: PLAIN fits the labels; LOG fits their logarithms, and the spread is one of ratios.
        seed: Seed of LightGBM; equal data and seed give equal predictions.
        parameters: Parameters of LightGBM by its own names; their ``seed``, if any, is replaced.
        rounds: Number of trees, at least 1.

    Raises:
        PredictorError: another scale.
    """

    minimum_rows = 6

    def __init__(
        self, *, scale: LabelScale, seed: int, parameters: Mapping[str, Any] = ALONE, rounds: int = ALONE_ROUNDS
    ) -> None:
        check_scale(scale, (LabelScale.PLAIN, LabelScale.LOG), "LightGBM")
        self._scale, self._parameters, self._rounds = scale, {**parameters, "seed": seed}, rounds
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,).

        Args:
            features: Rows of the measured networks, (n, d); finite, at least 6 rows.
            labels: Measured value of each row, (n,); finite, and above 0 with LOG.
        """
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self._scale.positive)
        targets = np.log(y) if self._scale is LabelScale.LOG else y
        rows = lightgbm.Dataset(x, targets, params=self._parameters)
        self._model = lightgbm.train(self._parameters, rows, self._rounds)
        # In-sample; `ConformalPredictor` gives calibrated intervals.
        self._spread = Spread.of(targets - _predict(self._model, x, self._rounds))
        self._n_columns = x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d).

        Args:
            features: Rows to predict, (m, d), with the columns of the fit; finite. No rows give empty predictions.
        """
        x = query_array(features, self._n_columns)
        targets = _predict(self._model, x, self._rounds)
        ratio = self._scale is LabelScale.LOG
        return self._spread.around(np.exp(targets) if ratio else targets, ratio=ratio)


def _predict(model: lightgbm.Booster, features: Array, rounds: int) -> Array:
    if not len(features):  # which LightGBM rejects
        return np.empty(0)
    return np.asarray(model.predict(features, num_iteration=rounds, num_threads=1), dtype=np.float64)
