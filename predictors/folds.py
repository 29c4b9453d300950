"""Subsets of rows: folds balanced over the labels, with predictions of held-out rows, and evenly spaced rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from predictors.base import Array, Prediction, Predictor

N_FOLDS = 5
Folds = Sequence[NDArray[np.int64]]
"""Held-out row indices of each fold; together they are all rows, each once."""


def make_folds(labels: Array, rng: np.random.Generator, n_folds: int = N_FOLDS) -> list[NDArray[np.int64]]:
    """Folds in which every part holds small and large labels: each run of `n_folds` neighbours by rank is dealt out.

    Fewer rows than `n_folds` give one fold a row.
    """
    n, k = len(labels), min(n_folds, len(labels))
    order = np.argsort(labels, kind="stable")
    dealt = np.concatenate([rng.permutation(k) for _ in range(-(-n // k))])[:n]
    return [np.sort(order[dealt == fold]) for fold in range(k)]


def rows_outside(fold: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The rows outside a fold, in order."""
    mask = np.ones(n, dtype=bool)
    mask[fold] = False
    return np.flatnonzero(mask)


def held_out(make: Callable[[], Predictor], features: Array, labels: Array, folds: Folds) -> Prediction:
    """Predictions (n,) of each row by a model that was fitted without its fold."""
    out = np.empty((4, len(labels)))
    for fold in folds:
        training = rows_outside(fold, len(labels))
        model = make()
        model.fit(features[training], labels[training])
        prediction = model.predict(features[fold])
        out[:, fold] = prediction.mean, prediction.std, prediction.low, prediction.high
    return Prediction(*out)


def evenly_spaced(n: int, max_rows: int) -> NDArray[np.int64]:
    """Indices of at most `max_rows` of `n` rows, ascending and evenly spaced; the first and, of several, the last are
    included."""
    return np.unique(np.linspace(0, n - 1, min(n, max_rows)).astype(np.int64))
