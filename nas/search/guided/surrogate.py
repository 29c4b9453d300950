"""A Gaussian process over genes: a rough kernel with a weight for each gene, and a trend over how often options occur."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, lapack, solve_triangular
from scipy.optimize import minimize
from scipy.stats import norm

from nas.problem.objectives import Goal
from nas.search.guided.warp import BestWarp, LogWarp, Warp
from predictors.base import Array, Prediction
from predictors.checks import query_array, training_arrays
from predictors.folds import Folds, held_out, make_folds
from predictors.intervals import LEVEL
from predictors.linear import RidgePredictor
from predictors.mean import MeanPredictor
from predictors.quality import Quality, Scores
from predictors.scale import Bounds, LabelScale
from predictors.subsample import evenly_spaced
from predictors.threads import one_thread

LIKELIHOOD_ROWS = 200
"""Rows that the weights are learnt from at most; each likelihood costs n³."""
ITERATIONS = 40
EVIDENCE_ITERATIONS = 8
"""On NAS-Bench-201 the best of eleven views after 8 iterations is the best after 40."""
PRIOR_SIGMA = 1.0
"""Of the logarithm of each gene's weight about the genes' common one: a factor of e either way is unremarkable."""
_NOISES = (1e-3, 1e-2, 1e-1)
_REACHES = (0.3, 1.0, 3.0, 10.0)
"""Grid that the search for the likeliest parameters starts from: noise variance, and the exponent at which two random
architectures stand, both for labels of deviation 1."""
_JITTER = 1e-8
_ROUNDING = 1e-12
_AMPLITUDE, _NOISE, _SLOPE, _WEIGHTS = 0, 1, 2, 3
"""Where log s², log noise variance, log t² and, from there on, the log weights stand among the parameters."""
_SLOPE_PRIOR = -1.0
_PRIORS = np.array([0.0, 0.0, _SLOPE_PRIOR])
_PRIOR_SIGMAS = np.array([2.0, np.inf, 2.0])
"""Normal priors of the first three, for labels of deviation 1; the noise has none but its bounds."""
_Z = float(norm.ppf(0.5 + LEVEL / 2))


class HammingProcess:
    """k(a, b) = s² exp(-r) + t² (sum over trend columns of a_c b_c) + noise, r² = sum over columns of w(c) (a_c - b_c)² / 2.

    On one-hot columns that share a weight, r² counts the genes in which two architectures differ, each by its weight.
    The process is rough (the Matérn kernel of smoothness 1/2; Rasmussen and Williams 2006, section 4.2.1): one gene can
    change an accuracy at once, and a smooth one is too sure of itself where nothing was measured. Weights, amplitudes
    and noise are those of greatest posterior density: each weight's prior is log-normal about the common weight of
    greatest likelihood, without which 45 weights fit themselves to 50 labels.

    Args:
        groups: for each feature column the number of its weight, 0, 1, 2, ...; a column of -1 is not used.
        trend: columns in which the figure also has a linear trend; may be none.
        goal: MINIMIZE learns the logarithm of positive labels; MAXIMIZE learns them by `BestWarp`.
        seed: of the folds that `quality` is taken on.
        name: of the model, for `quality`.
    """

    minimum_rows = 4
    """Without a fold there are three, which the baselines of `quality` need."""

    def __init__(
        self,
        groups: Sequence[int] | NDArray[np.int64],
        *,
        trend: Sequence[int] | NDArray[np.int64] = (),
        goal: Goal,
        seed: int = 0,
        name: str = "Gaussian process over genes",
    ) -> None:
        self.goal, self.seed, self.name = goal, seed, name
        groups = np.asarray(groups, dtype=np.int64)
        self._columns = np.flatnonzero(groups >= 0)
        self._groups = groups[self._columns]
        self._n_groups = int(self._groups.max()) + 1
        self._trend = np.asarray(trend, dtype=np.int64)
        self._prior_sigmas = np.concatenate([_PRIOR_SIGMAS, np.full(self._n_groups, PRIOR_SIGMA)])
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,); sets `quality`.

        Raises:
            PredictorError: see `training_arrays`; fewer than 4 rows.
        """
        x, y = self._checked(features, labels)
        self._warp = self._warp_of(y)
        targets = self._warp.forward(y)
        self._centre, self._unit = _spread_of(targets)
        self._x, self._t, self._z = x[:, self._columns], x[:, self._trend], (targets - self._centre) / self._unit
        with one_thread():
            # Evenly spaced, not the first: a search's early rows are random and its late ones are good.
            some = evenly_spaced(len(x), LIKELIHOOD_ROWS)
            self._theta = self._most_likely(self._x[some], self._t[some], self._z[some], ITERATIONS)[0]
            kernel = self._kernel(self._x, self._t)
            kernel[np.diag_indices_from(kernel)] += np.exp(self._theta[_NOISE]) + _JITTER
            self._factor = cho_factor(kernel, lower=True)
            self._alpha = cho_solve(self._factor, self._z)
            self.quality = self._report(x, y)
        self._n_columns = x.shape[1]

    def evidence(self, features: Array, labels: Array) -> float:
        """How well these features explain the labels, in nats: the log of the greatest posterior density, but for a constant.

        A short climb on all rows, for which a few dozen do; nothing of the process changes. It compares processes with
        equally many weights and trend columns on the same labels.

        Raises:
            PredictorError: as for `fit`.
        """
        x, y = self._checked(features, labels)
        targets = self._warp_of(y).forward(y)
        centre, unit = _spread_of(targets)
        with one_thread():
            found = self._most_likely(
                x[:, self._columns], x[:, self._trend], (targets - centre) / unit, EVIDENCE_ITERATIONS
            )
        return -found[1]

    def _checked(self, features: Array, labels: Array) -> tuple[Array, Array]:
        return training_arrays(features, labels, minimum=self.minimum_rows, positive=self.goal is Goal.MINIMIZE)

    def _warp_of(self, labels: Array) -> Warp:
        return LogWarp() if self.goal is Goal.MINIMIZE else BestWarp(labels)

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d); noise is part of the deviation. The mean is the figure of the process's mean."""
        centred, variance = self._posterior(features)
        return self._prediction(centred, np.sqrt(variance + np.exp(self._theta[_NOISE])))

    def latent(self, features: Array) -> tuple[Array, Array]:
        """Mean and deviation (m,) of the warped figure itself, without the noise of measuring it."""
        centred, variance = self._posterior(features)
        return self._centre + self._unit * centred, self._unit * np.sqrt(variance)

    def figure(self, latent: Array) -> Array:
        """Figures of warped ones, of any shape."""
        return self._warp.inverse(latent)

    def _report(self, x: Array, y: Array) -> Quality:
        folds, ratio = make_folds(y, np.random.default_rng(self.seed)), self.goal is Goal.MINIMIZE
        found = self._held_out(folds)
        ridge = LabelScale.RELATIVE if ratio else LabelScale.PLAIN
        baselines = [
            held_out(partial(MeanPredictor, scale=LabelScale.LOG if ratio else LabelScale.PLAIN), x, y, folds).mean,
            Bounds.of(y, ratio=ratio).clip(held_out(partial(RidgePredictor, scale=ridge), x, y, folds).mean),
        ]
        mean, by_ridge = (Scores.held_out(y, m, folds, ratio=ratio) for m in baselines)
        scores = Scores.of(y, found.mean, found.low, found.high)
        return Quality(self.name, len(y), scores, mean, by_ridge)

    def _held_out(self, folds: Folds) -> Prediction:
        """Predictions of the training rows (n,), each without its fold and with the parameters of all rows.

        Closed form, as for leaving one out (Rasmussen and Williams 2006, section 5.4.2).
        """
        inverse = cho_solve(self._factor, np.eye(len(self._z)))
        mean, variance = np.empty_like(self._z), np.empty_like(self._z)
        for fold in folds:
            covariance = np.linalg.inv(inverse[np.ix_(fold, fold)])
            mean[fold] = self._z[fold] - covariance @ self._alpha[fold]
            variance[fold] = np.diag(covariance)
        return self._prediction(mean, np.sqrt(np.maximum(variance, _JITTER)))

    def _posterior(self, features: Array) -> tuple[Array, Array]:
        """Mean and variance of the noiseless process in standardised terms, each (m,)."""
        features = query_array(features, self._n_columns)
        x, trend = features[:, self._columns], features[:, self._trend]
        with one_thread():
            cross = self._kernel(x, trend)
            solved = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
            prior = np.exp(self._theta[_AMPLITUDE]) + np.exp(self._theta[_SLOPE]) * np.einsum("ij,ij->i", trend, trend)
            variance = prior - np.einsum("ij,ij->j", solved, solved)
            return cross @ self._alpha, np.maximum(variance, _JITTER)

    def _prediction(self, centred: Array, std: Array) -> Prediction:
        mean, std = self._centre + self._unit * centred, self._unit * std
        figure, low, high = (self._warp.inverse(v) for v in (mean, mean - _Z * std, mean + _Z * std))
        return Prediction(figure, self._warp.slope(figure) * std, low, high)

    def _kernel(self, x: Array, trend: Array) -> Array:
        """Between rows and the training rows, without noise, (m, n)."""
        weights = np.exp(self._theta[_WEIGHTS:])[self._groups]
        rough = np.exp(self._theta[_AMPLITUDE] - np.sqrt(_distances(x, self._x, weights)))
        kernel: Array = rough + np.exp(self._theta[_SLOPE]) * (trend @ self._t.T)
        return kernel

    def _most_likely(self, x: Array, trend: Array, z: Array, iterations: int) -> tuple[Array, float]:
        """The parameters of greatest posterior density, by L-BFGS-B from the best of a small grid, and their loss."""
        apart = max(float(_distances(x, x, np.ones(x.shape[1])).mean()), 1e-12)
        slopes = trend @ trend.T
        starts = [
            np.concatenate([[0.0, np.log(noise), _SLOPE_PRIOR], np.full(self._n_groups, np.log(reach / apart))])
            for noise in _NOISES
            for reach in _REACHES
        ]
        start = min(starts, key=lambda theta: self._loss(theta, x, slopes, z, theta[_WEIGHTS])[0])
        common = start[_WEIGHTS]
        bounds = [(-5.0, 5.0), (np.log(1e-5), np.log(2.0)), (-12.0, 5.0)]
        bounds += [(common - 6.0, common + 6.0)] * self._n_groups
        found = minimize(
            self._loss,
            start,
            args=(x, slopes, z, common),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": iterations},
        )
        return found.x, float(found.fun)

    def _loss(self, theta: Array, x: Array, slopes: Array, z: Array, common: float) -> tuple[float, Array]:
        """Negative log posterior density and its gradient; the weights' prior is centred on `common`.

        Args:
            slopes: inner products of the rows' trend columns, (n, n).
        """
        weights = np.exp(theta[_WEIGHTS:])
        distance = np.sqrt(_distances(x, x, weights[self._groups]))
        rough = np.exp(theta[_AMPLITUDE] - distance)
        trend = np.exp(theta[_SLOPE]) * slopes
        kernel = rough + trend
        kernel[np.diag_indices_from(kernel)] += np.exp(theta[_NOISE]) + _JITTER
        factor, _ = cho_factor(kernel, lower=True, check_finite=False)
        alpha = cho_solve((factor, True), z, check_finite=False)
        inverse = lapack.dpotri(factor, lower=1)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        loss = 0.5 * float(z @ alpha) + float(np.log(np.diag(factor)).sum())
        outer = np.outer(alpha, alpha) - inverse
        inner = outer * rough
        # d rough / d r² is -rough / 2r; equal rows stay equal whatever the weights.
        by_distance = np.divide(inner, 2.0 * distance, out=np.zeros_like(inner), where=distance > 0)
        by_column = (by_distance.sum(axis=1)[:, None] * x**2 - x * (by_distance @ x)).sum(axis=0)
        by_group = np.bincount(self._groups, by_column, minlength=self._n_groups)
        amplitudes = [inner.sum(), np.exp(theta[_NOISE]) * np.trace(outer), (outer * trend).sum()]
        gradient = np.concatenate([-0.5 * np.array(amplitudes), 0.5 * weights * by_group])
        away = np.concatenate([theta[:_WEIGHTS] - _PRIORS, theta[_WEIGHTS:] - common]) / self._prior_sigmas
        loss += 0.5 * float(away @ away)
        gradient += away / self._prior_sigmas
        return loss, gradient


def _spread_of(targets: Array) -> tuple[float, float]:
    """Mean and deviation; 1 in place of a deviation that is only rounding."""
    centre, deviation = float(targets.mean()), float(targets.std())
    return centre, deviation if deviation > 1e-12 * max(abs(centre), 1e-300) else 1.0


def _distances(one: Array, two: Array, weights: Array) -> Array:
    """Half the weighted squared distances, (n, m); exactly 0 between equal rows, whose root would else be noise."""
    scaled = one * weights
    squares = 0.5 * (scaled * one).sum(axis=1)[:, None] + 0.5 * (two**2 @ weights)[None, :]
    distances: Array = squares - scaled @ two.T
    distances[distances < _ROUNDING * squares] = 0.0
    return distances
