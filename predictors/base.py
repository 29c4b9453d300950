"""The protocol of a predictor, and its predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted values, each (n,), in the unit of the labels.

    Attributes:
        mean: the predicted value.
        std: one standard deviation of the prediction's error (predictive: noise of a new measurement included).
        low: lower end of the central 90 % predictive interval.
        high: upper end.
    """

    mean: Array
    std: Array
    low: Array
    high: Array


class Predictor(Protocol):
    """Learns labels from feature rows."""

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,).

        Raises:
            PredictorError: too few rows, NaN or infinite values, shapes that do not match.
        """
        ...

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d); needs a `fit` before."""
        ...
