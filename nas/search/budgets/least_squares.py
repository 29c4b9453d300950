"""Least squares with penalties that cross-validation chooses: with weights that are not negative, and by ridge regression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.problem.pareto import Array

PENALTIES = tuple(10.0**power for power in range(-4, 3))
"""Penalties tried, as shares of the mean square of the design's columns."""
_FOLDS = 5


def nonnegative_weights(design: Array, targets: Array, prior: Array, penalties: Sequence[float] = PENALTIES) -> Array:
    """Weights (d,) of least squares that are nowhere negative, and stay near to a prior.

    Args:
        design: (n, d).
        targets: (n,).
        prior: Weights (d,), at least 0, to which penalties pull; where the rows say nothing, these stay.
        penalties: Penalties to choose from, one or more; see `PENALTIES`.
    """
    from scipy.optimize import nnls  # half a second, which most searches do without

    def solved(rows: Array, values: Array, penalty: float) -> Array:
        root = np.sqrt(penalty * scale)
        augmented = np.vstack([rows, root * np.eye(rows.shape[1])])
        weights, _ = nnls(augmented, np.concatenate([values, root * prior]), maxiter=50 * rows.shape[1])
        return np.asarray(weights, dtype=np.float64)

    scale = max(float(np.square(design).sum()) / design.shape[1], 1e-300)
    if len(penalties) == 1:
        return solved(design, targets, penalties[0])
    folds = [np.arange(len(targets)) % _FOLDS == fold for fold in range(min(_FOLDS, len(targets)))]
    errors = [
        sum(
            float(np.square(targets[out] - design[out] @ solved(design[~out], targets[~out], penalty)).sum())
            for out in folds
        )
        for penalty in penalties
    ]
    return solved(design, targets, penalties[int(np.argmin(errors))])


def ridge_weights(design: Array, targets: Array) -> Array:
    """Weights (d,) of ridge regression with the penalty of least leave-one-out error; zeros where none has less than they.

    Args:
        design: (n, d).
        targets: (n,).
    """
    gram = design @ design.T
    scale = max(float(np.trace(gram)) / len(targets), 1e-300)
    smallest_error, best = float(np.square(targets).mean()), np.zeros(design.shape[1])
    for penalty in PENALTIES:
        # The error of a row that is left out is its residual by one minus its leverage (Allen 1974).
        inverse = np.linalg.inv(gram + penalty * scale * np.eye(len(targets)))
        dual = inverse @ targets
        error = float(np.square(dual / np.diag(inverse)).mean())
        if error < smallest_error:
            smallest_error, best = error, design.T @ dual
    return best


def kriging_weights(distances: Array, targets: Array) -> tuple[Array, float]:
    """Weights (n,) and the length of an exponential kernel whose sums interpolate targets; zeros where none is better.

    Simple kriging (a Gaussian process of mean 0): the length and the noise have the smallest_error leave-one-out error.

    Args:
        distances: Distances between the n points, (n, n).
        targets: (n,).
    """
    smallest_error, best = float(np.square(targets).mean()), (np.zeros(len(targets)), 1.0)
    for length in (0.5, 1.0, 2.0, 4.0):
        kernel = np.exp(-distances / length)
        for noise in (0.01, 0.1, 0.3, 1.0, 3.0):
            inverse = np.linalg.inv(kernel + noise * np.eye(len(targets)))
            weights = inverse @ targets
            error = float(np.square(weights / np.diag(inverse)).mean())
            if error < smallest_error:
                smallest_error, best = error, (weights, length)
    return best
