"""Weights of several models by the errors of their held-out predictions."""

from __future__ import annotations

import numpy as np

from predictors.base import Array
from predictors.folds import Folds, rows_outside

SAMPLES = 20
STEPS = 5
MIN_WEIGHT = 0.02
"""Smaller weights are dropped: such a model costs its prediction and has no effect."""


def errors_by_model(labels: Array, means: Array, *, ratio: bool) -> Array:
    """Signed errors of predictions (..., n), relative to the labels (n,) where `ratio`."""
    return means / labels - 1.0 if ratio else means - labels


def ensemble_weights(labels: Array, means: Array, rng: np.random.Generator, *, ratio: bool) -> Array:
    """Weights (k,), at least 0 and summing to 1, of models by their held-out predictions (k, n).

    Greedy selection with replacement (Caruana et al. 2004, "Ensemble selection from libraries of models"), of `STEPS`
    models: it starts with the best one and adds the one that reduces the mean absolute error of the mean most; the first
    of equals wins. The weights are averages over `SAMPLES` bootstrap samples of the rows. Departure from the paper: it
    draws models, not rows; here a model's weight is the share of samples in which it is selected.
    """
    errors = errors_by_model(labels, means, ratio=ratio)
    counts, n = np.zeros(len(means)), len(labels)
    for _ in range(SAMPLES):
        drawn = errors[:, rng.integers(0, n, n)]
        total = np.zeros(n)
        for _ in range(STEPS):
            # The number of models in the mean is the same for all: sums compare as means do.
            chosen = int(np.argmin(np.abs(total + drawn).mean(axis=1)))
            counts[chosen] += 1.0
            total += drawn[chosen]
    weights = counts / counts.sum()
    weights[weights < MIN_WEIGHT] = 0.0
    return np.asarray(weights / weights.sum())


def cross_combined(labels: Array, means: Array, folds: Folds, rng: np.random.Generator, *, ratio: bool) -> Array:
    """Weighted means (n,) of held-out predictions (k, n), the rows of each fold by the weights of the others.

    Weights overfit to the errors by which they are chosen; these means are an honest estimate of the combination.
    """
    out = np.empty_like(labels)
    for fold in folds:
        training = rows_outside(fold, len(labels))
        out[fold] = ensemble_weights(labels[training], means[:, training], rng, ratio=ratio) @ means[:, fold]
    return out
