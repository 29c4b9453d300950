"""A predictor with a second model on its errors."""

from __future__ import annotations

from collections.abc import Callable

from predictors.base import Array, Prediction
from predictors.checks import query_array, training_arrays
from predictors.folds import Folds
from predictors.kernel_process import KernelProcess
from predictors.linear import RidgePredictor
from predictors.scale import errors_of, shifted


class ResidualPredictor:
    """A base of few parameters, corrected by a model of its errors.

    Errors are ratios where the base fits positive labels, else differences. They are in-sample errors, not held-out ones:
    an affine map of two parameters hardly overfits.

    Args:
        base: makes the unfitted base.
        rest: makes the unfitted model of its errors, on PLAIN labels.
    """

    minimum_rows = 3

    def __init__(self, base: Callable[[], RidgePredictor], rest: Callable[[], RidgePredictor | KernelProcess]) -> None:
        self._base, self._rest = base(), rest()
        self._ratio = self._base.scale.positive
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,).

        Raises:
            PredictorError: see `training_arrays`; fewer than 3 rows.
        """
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self._ratio)
        self._base.fit(x, y)
        self._rest.fit(x, errors_of(y, self._base.predict(x).mean, ratio=self._ratio))
        self._labels, self._n_columns = y, x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d).

        Raises:
            PredictorError: see `query_array`.
        """
        x = query_array(features, self._n_columns)
        return self._shifted(self._base.predict(x), self._rest.predict(x))

    def held_out(self, folds: Folds) -> Prediction:
        """Predictions of the training rows (n,), each without its fold."""
        return self._shifted(self._base.held_out(folds), self._rest.held_out(folds))

    def _shifted(self, base: Prediction, rest: Prediction) -> Prediction:
        mean = shifted(base.mean, rest.mean, ratio=self._ratio)
        std = rest.std * mean if self._ratio else rest.std
        low, high = (shifted(base.mean, end, ratio=self._ratio) for end in (rest.low, rest.high))
        return Prediction(mean, std, low, high)
