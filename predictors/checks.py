"""Checks of the arrays that users hand to predictors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors.base import Array
from predictors.errors import PredictorError


def training_arrays(
    features: NDArray[Any], labels: NDArray[Any], *, minimum: int, positive: bool = False
) -> tuple[Array, Array]:
    """The training data as float64 arrays (n, d) and (n,), checked.

    Args:
        minimum: rows that the caller needs.
        positive: labels must be above zero.

    Raises:
        PredictorError: shapes that do not match, NaN or infinite values, too few rows, labels of the wrong sign.
    """
    x, y = _features(features), np.asarray(labels, dtype=np.float64)
    if y.ndim != 1 or len(y) != len(x):
        raise PredictorError(
            f"labels have shape {y.shape} for features of shape {x.shape}; expected one label a row, ({len(x)},)"
        )
    if len(y) < minimum:
        raise PredictorError(f"{len(y)} training rows; this predictor needs at least {minimum}: measure more first")
    if not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0])
        raise PredictorError(f"label {row} is {y[row]}; expected finite figures: leave failed measurements out")
    if positive and (y <= 0).any():
        row = int(np.flatnonzero(y <= 0)[0])
        raise PredictorError(f"label {row} is {y[row]:g}; expected figures above 0 here (a latency, a size)")
    return x, y


def query_array(features: NDArray[Any], n_columns: int | None) -> Array:
    """The rows to predict as a float64 array (m, d), checked against the fit.

    Args:
        n_columns: columns of the features fitted, None before a fit.

    Raises:
        PredictorError: no fit yet, another number of columns, NaN or infinite values.
    """
    if n_columns is None:
        raise PredictorError("predict was called before fit; fit on measured rows first")
    x = _features(features)
    if x.shape[1] != n_columns:
        raise PredictorError(f"features have {x.shape[1]} columns; the fit had {n_columns}: encode both the same way")
    return x


def _features(features: NDArray[Any]) -> Array:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise PredictorError(f"features have shape {x.shape}; expected (rows, columns) with at least one column")
    if not np.isfinite(x).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise PredictorError(f"features[{row}, {column}] is {x[row, column]}; expected finite numbers")
    return x
