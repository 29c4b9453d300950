"""Checks of the arrays passed to predictors."""

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
    """The rows to predict as a float64 array (m, d), checked against the fit.

    Args:
        n_columns: columns of the features fitted, None before a fit.

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
