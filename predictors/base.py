"""The protocol of a predictor, its predictions, and the checks of its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from predictors.errors import PredictorError

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
        """Learns (n, d) -> (n,); raises `PredictorError` as `training_arrays` does.

        Args:
            features: Rows of the measured networks, (n, d), with at least one column; finite. Each class states in
                ``minimum_rows`` how many rows it needs.
            labels: Measured value of each row, (n,), in any unit; finite, and above 0 where the errors of the model are ratios.
                Failed measurements must be left out.
        """
        ...

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d), after a `fit`; raises `PredictorError` as `query_array` does.

        Args:
            features: Rows to predict, (m, d), with the columns of the fit; finite. No rows give empty predictions.
        """
        ...


def training_arrays(
    features: NDArray[Any], labels: NDArray[Any], *, minimum: int, positive: bool = False
) -> tuple[Array, Array]:
    """The training data as float64 arrays (n, d) and (n,), checked; labels must be above zero where `positive`.

    Raises:
        PredictorError: invalid features or labels (codes ``predictor.invalid-features``, ``predictor.invalid-labels``), or
            too few rows (``predictor.too-few-rows``).
    """
    x, y = _features(features), np.asarray(labels, dtype=np.float64)
    if y.ndim != 1 or len(y) != len(x):
        raise _bad_labels(f"have shape {y.shape} for features of shape {x.shape}; expected one per row, ({len(x)},)")
    if len(y) < minimum:
        message = f"{len(y)} training rows; this predictor needs at least {minimum}: measure more first"
        raise PredictorError(message, code="predictor.too-few-rows")
    bad = ~np.isfinite(y) | (positive & (y <= 0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        expected = "numbers above 0" if positive else "numbers"
        raise _bad_labels(f"have {y[row]:g} in row {row}; expected finite {expected}: leave failed measurements out")
    return x, y


def query_array(features: NDArray[Any], n_columns: int | None) -> Array:
    """The rows to predict as a float64 array (m, d), checked against the columns of the fit, None before it.

    Raises:
        PredictorError: no fit yet (``predictor.not-fitted``), another number of columns, NaN or infinite values
            (``predictor.invalid-features``).
    """
    if n_columns is None:
        raise PredictorError("predict was called before fit; fit on measured rows first", code="predictor.not-fitted")
    x = _features(features)
    if x.shape[1] != n_columns:
        raise _bad_features(f"have {x.shape[1]} columns; the fit had {n_columns}: encode both the same way")
    return x


def _features(features: NDArray[Any]) -> Array:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise _bad_features(f"have shape {x.shape}; expected (rows, columns) with at least one column")
    if not np.isfinite(x).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise _bad_features(f"have {x[row, column]} at [{row}, {column}]; expected finite numbers")
    return x


def _bad_features(fault: str) -> PredictorError:
    return PredictorError(f"features {fault}", code="predictor.invalid-features")


def _bad_labels(fault: str) -> PredictorError:
    return PredictorError(f"labels {fault}", code="predictor.invalid-labels")
