"""Exact Gaussian-process regression from covariance matrices: posterior, held-out predictions, marginal likelihood."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve, lapack, solve_triangular

from predictors.base import Array
from predictors.folds import Folds

JITTER = 1e-8
"""Least variance, for labels of deviation 1; it keeps covariance matrices positive definite."""
_ROUNDING = 1e-12


class GaussianPosterior:
    """The posterior of a process with zero prior mean (Rasmussen and Williams 2006, algorithm 2.1).

    Args:
        kernel: covariances of the training rows without noise, (n, n); overwritten.
        noise: variance of the noise, one for all rows or one for each, (n,).
        z: labels, (n,).
    """

    def __init__(self, kernel: Array, noise: float | Array, z: Array) -> None:
        kernel[np.diag_indices_from(kernel)] += noise
        self._z = z
        self._factor = cho_factor(kernel, lower=True)
        self._alpha = cho_solve(self._factor, z)

    def at(self, cross: Array, prior: Array) -> tuple[Array, Array]:
        """Mean and variance of the noiseless process, each (m,); rounding may leave a variance below 0.

        Args:
            cross: covariances with the training rows, (m, n).
            prior: variances before the data, (m,).
        """
        solved = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        return cross @ self._alpha, prior - np.einsum("ij,ij->j", solved, solved)

    def held_out(self, folds: Folds) -> tuple[Array, Array]:
        """Mean and deviation (n,) of the training labels, each without its fold; noise included.

        Closed form, as for leaving one out (Rasmussen and Williams 2006, section 5.4.2).
        """
        inverse = cho_solve(self._factor, np.eye(len(self._z)))
        mean, variance = np.empty_like(self._z), np.empty_like(self._z)
        for fold in folds:
            covariance = np.linalg.inv(inverse[np.ix_(fold, fold)])
            mean[fold] = self._z[fold] - covariance @ self._alpha[fold]
            variance[fold] = np.diag(covariance)
        return mean, np.sqrt(np.maximum(variance, JITTER))

    def left_out_std(self) -> Array:
        """The deviations of `held_out` with one fold a row (Rasmussen and Williams 2006, equation 5.12)."""
        inverse = solve_triangular(self._factor[0], np.eye(len(self._z)), lower=True)
        return np.asarray(1.0 / np.sqrt((inverse**2).sum(axis=0)))


def marginal_loss(kernel: Array, z: Array) -> tuple[float, Array]:
    """The negative log marginal likelihood, but for a constant, and -2 times its gradient by the covariances, (n, n).

    Rasmussen and Williams 2006, equation 5.9, for labels (n,) and a kernel (n, n) that includes the noise.
    """
    factor, _ = cho_factor(kernel, lower=True, check_finite=False)
    alpha = cho_solve((factor, True), z, check_finite=False)
    inverse = lapack.dpotri(factor, lower=1)[0]
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    loss = 0.5 * float(z @ alpha) + float(np.log(np.diag(factor)).sum())
    return loss, np.outer(alpha, alpha) - inverse


def distances(first: Array, second: Array, weights: Array) -> Array:
    """Half the weighted squared distances of rows (n, d) and (m, d): (n, m); exactly 0 between equal rows."""
    scaled = first * weights
    squares = 0.5 * (scaled * first).sum(axis=1)[:, None] + 0.5 * (second**2 @ weights)[None, :]
    distance: Array = squares - scaled @ second.T
    distance[distance < _ROUNDING * squares] = 0.0
    return distance
