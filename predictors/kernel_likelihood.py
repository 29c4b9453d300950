"""Posterior density of a kernel process's parameters, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.base import Array
from predictors.gaussian import JITTER, distances, marginal_loss

WEIGHT_SIGMA = 1.0
"""Of the logarithm of each group's weight about the common one: a factor of e either way is unremarkable."""
AMPLITUDE_SIGMA = 2.0
"""Of the logarithms of the variances of lines and smooth part, for labels of deviation 1."""


@dataclass(frozen=True)
class Posterior:
    """The density of theta: logarithms of each line's variance, of the smooth part's, of the noise's, of each weight.

    Attributes:
        grams: inner products of the rows by line, (n, n) each.
        rows: standardised columns of the smooth part, (n, d).
        labels: standardised, (n,).
        groups: number of the weight of each column, (d,).
        common: the logarithm that the weights' prior is centred on; None for a flat prior.
        weight_sigma: the deviation of that prior.
    """

    grams: Sequence[Array]
    rows: Array
    labels: Array
    groups: NDArray[np.int64]
    common: float | None = None
    weight_sigma: float = WEIGHT_SIGMA

    def loss(self, theta: Array) -> tuple[float, Array]:
        """Negative log density, but for a constant, and its gradient."""
        n_lines = len(self.grams)
        n_scalars = n_lines + 2
        x, weights, noise = self.rows, np.exp(theta[n_scalars:]), float(np.exp(theta[n_lines + 1]))
        smooth = np.exp(theta[n_lines] - distances(x, x, weights[self.groups]))
        parts = [np.exp(theta[i]) * gram for i, gram in enumerate(self.grams)]
        kernel = sum(parts, smooth.copy())
        kernel[np.diag_indices_from(kernel)] += noise + JITTER
        loss, outer = marginal_loss(kernel, self.labels)
        inner = outer * smooth
        by_column = (inner.sum(axis=1)[:, None] * x**2 - x * (inner @ x)).sum(axis=0)
        by_group = np.bincount(self.groups, by_column, minlength=len(weights))
        scalars = [*(float(np.vdot(outer, part)) for part in parts), float(inner.sum()), noise * float(np.trace(outer))]
        gradient = np.concatenate([-0.5 * np.array(scalars), 0.5 * weights * by_group])
        amplitudes = theta[: n_lines + 1]
        loss += 0.5 * float(amplitudes @ amplitudes) / AMPLITUDE_SIGMA**2
        gradient[: n_lines + 1] += amplitudes / AMPLITUDE_SIGMA**2
        if self.common is not None:
            away = (theta[n_scalars:] - self.common) / self.weight_sigma
            loss += 0.5 * float(away @ away)
            gradient[n_scalars:] += away / self.weight_sigma
        return loss, gradient
