"""The baseline without features: the average of the labels."""

from __future__ import annotations

import numpy as np

from predictors.base import Array, Prediction
from predictors.checks import query_array, training_arrays
from predictors.intervals import Spread
from predictors.scale import LabelScale, errors_of


class MeanPredictor:
    """Predicts the mean of the labels for all features.

    Args:
        scale: LOG gives their geometric mean, RELATIVE the value of least squared relative error.
    """

    minimum_rows = 2

    def __init__(self, *, scale: LabelScale = LabelScale.PLAIN) -> None:
        self.scale = scale
        self._mean = 0.0
        self._spread = Spread(0.0, 0.0)
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,); the spread is that of leave-one-out errors.

        Raises:
            PredictorError: see `training_arrays`; fewer than 2 rows.
        """
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self.scale.positive)
        weights = y**-2 if self.scale is LabelScale.RELATIVE else np.ones_like(y)
        targets = np.log(y) if self.scale is LabelScale.LOG else y
        total, weighted = weights.sum(), float(weights @ targets)
        left_out = (weighted - weights * targets) / (total - weights)
        mean = weighted / float(total)
        if self.scale is LabelScale.LOG:
            mean, left_out = float(np.exp(mean)), np.exp(left_out)
        self._mean, self._n_columns = mean, x.shape[1]
        self._spread = Spread.of(errors_of(y, left_out, ratio=self.scale.positive))

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d).

        Raises:
            PredictorError: see `query_array`.
        """
        x = query_array(features, self._n_columns)
        return self._spread.around(np.full(len(x), self._mean), ratio=self.scale.positive)
