"""A Gaussian process of lines plus a smooth function of genes, with a weight for each gene; of labels under a monotone map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import norm

from predictors.base import Array, Prediction, query_array, training_arrays
from predictors.folds import Folds, evenly_spaced, rows_outside
from predictors.gaussian import JITTER, GaussianPosterior, distances, marginal_loss
from predictors.intervals import LEVEL
from predictors.label_scales import LabelScale, Standardiser, check_scale

BEST_SHARE = 0.25
"""Quantile of the distances to the best label below which `best_warp` is about linear."""
_Z = float(norm.ppf(0.5 + LEVEL / 2))
_Map = Callable[[Array], Array]
WEIGHT_SIGMA = 1.0
"""Deviation of the logarithm of each group's weight about the common one, and of each option's factor about 1: a factor of e
either way is unremarkable."""
AMPLITUDE_SIGMA = 2.0
"""Deviation of the logarithms of the variances of lines and smooth part, for labels of deviation 1."""


@dataclass(frozen=True)
class Warp:
    """An increasing map of labels.

    Attributes:
        forward: warped labels.
        inverse: labels of warped ones, without overflow.
        slope: d label / d warped at labels, which converts deviations.
    """

    forward: _Map
    inverse: _Map
    slope: _Map


PLAIN = Warp(lambda labels: labels, lambda warped: warped, np.ones_like)
LOG = Warp(np.log, lambda warped: np.exp(np.clip(warped, -700, 700)), lambda labels: labels)


def best_warp(labels: Array) -> Warp:
    """-log(1 + (best - label) / c), for labels (n,) to maximise: differences far below the best count little.

    Accuracies of a few collapsed networks have most of the variance, and a process fitted to them is blurred near the
    front. On NAS-Bench-201 (100 and 200 samples) the map lowers the RMSE among networks above 65 % by about 40 %. No
    prediction exceeds best + c; labels at or above it count as just below it.
    """
    best = float(labels.max())
    positive = (best - labels)[labels < best]
    scale = float(np.quantile(positive, BEST_SHARE)) if len(positive) else 1.0
    return Warp(
        lambda y: -np.log1p(np.maximum((best - y) / scale, -0.999)),
        lambda warped: best - scale * np.expm1(np.clip(-warped, -700, 700)),
        lambda y: best + scale - y,
    )


@dataclass(frozen=True)
class WarpedLabels:
    """Labels of mean 0 and deviation 1 after a warp.

    Attributes:
        z: (n,).
        centre: mean of the warped labels.
        unit: their deviation; 1 in place of one that is only rounding.
    """

    warp: Warp
    z: Array
    centre: float
    unit: float

    @classmethod
    def of(cls, labels: Array, warp: Warp) -> WarpedLabels:
        """These labels (n,) under a warp."""
        warped = warp.forward(labels)
        centre, deviation = float(warped.mean()), float(warped.std())
        unit = deviation if deviation > 1e-12 * max(abs(centre), 1e-300) else 1.0
        return cls(warp, (warped - centre) / unit, centre, unit)

    def prediction(self, z: Array, std: Array) -> Prediction:
        """The prediction of labels from mean and deviation, each (m,), in terms of `z`; its mean is a median."""
        warped, std = self.centre + self.unit * z, self.unit * std
        mean, low, high = (self.warp.inverse(v) for v in (warped, warped - _Z * std, warped + _Z * std))
        return Prediction(mean, self.warp.slope(mean) * std, low, high)


def column_weights(theta: Array, groups: NDArray[np.int64], options: NDArray[np.int64]) -> Array:
    """Products of groups' and options' weights by column, (d,), of their logarithms: all groups', then all options'."""
    by_group, by_option = np.split(theta, [int(groups.max()) + 1])
    return np.asarray(np.exp(by_group[groups] + np.append(by_option, 0.0)[options]))


@dataclass(frozen=True)
class Posterior:
    """The density of theta: logarithms of each line's variance, of the smooth part's, of the noise's, of each weight.

    Attributes:
        grams: Inner products of the rows by line, (n, n) each.
        rows: Standardised columns of the smooth part, (n, d).
        labels: Standardised labels, (n,).
        groups: Number of the weight of each column, (d,).
        options: Number of its option's weight, (d,), by which the first is multiplied; -1 for none.
        label_variances: Variances of single labels in addition to the noise, (n,).
        common: The logarithm that the prior of the groups' weights is centred on, that of the options' being centred on 0; None
            for flat priors.
        weight_sigma: The deviation of these priors.
    """

    grams: Sequence[Array]
    rows: Array
    labels: Array
    groups: NDArray[np.int64]
    options: NDArray[np.int64]
    label_variances: Array | float = 0.0
    common: float | None = None
    weight_sigma: float = WEIGHT_SIGMA

    def loss(self, theta: Array) -> tuple[float, Array]:
        """Negative log density, but for a constant, and its gradient."""
        n_lines = len(self.grams)
        n_scalars = n_lines + 2
        x, noise = self.rows, float(np.exp(theta[n_lines + 1]))
        weights = column_weights(theta[n_scalars:], self.groups, self.options)
        smooth = np.exp(theta[n_lines] - distances(x, x, weights))
        parts = [np.exp(theta[i]) * gram for i, gram in enumerate(self.grams)]
        kernel = sum(parts, smooth.copy())
        kernel[np.diag_indices_from(kernel)] += noise + JITTER + self.label_variances
        loss, outer = marginal_loss(kernel, self.labels)
        inner = outer * smooth
        by_column = weights * (inner.sum(axis=1)[:, None] * x**2 - x * (inner @ x)).sum(axis=0)
        by_group = np.bincount(self.groups, by_column)
        n_options = len(theta) - n_scalars - len(by_group)
        by_option = np.bincount(self.options + 1, by_column, minlength=n_options + 1)[1:]
        scalars = [*(float(np.vdot(outer, part)) for part in parts), float(inner.sum()), noise * float(np.trace(outer))]
        gradient = np.concatenate([-0.5 * np.array(scalars), 0.5 * by_group, 0.5 * by_option])
        amplitudes = theta[: n_lines + 1]
        loss += 0.5 * float(amplitudes @ amplitudes) / AMPLITUDE_SIGMA**2
        gradient[: n_lines + 1] += amplitudes / AMPLITUDE_SIGMA**2
        if self.common is not None:
            centres = np.concatenate([np.full(len(by_group), self.common), np.zeros(len(by_option))])
            away = (theta[n_scalars:] - centres) / self.weight_sigma
            loss += 0.5 * float(away @ away)
            gradient[n_scalars:] += away / self.weight_sigma
        return loss, gradient


LIKELIHOOD_ROWS = 200
"""Rows that parameters are learnt from at most; each likelihood costs n³."""
POSTERIOR_ROWS = 600
"""Rows that predictions are conditioned on at most: they cost n³ once, and n² each."""
ITERATIONS = 30
FEW_ITERATIONS = 12
"""Iterations for a start near the optimum, and before a second optimisation: more changed no error on published tables."""
REFIT_ROWS = 150
LEAST_NOISE = 1e-6
"""Variance, for labels of deviation 1. Some published latencies are sums from a table of operators, to which a line fits almost
exactly."""
_NOISES = (1e-3, 3e-2)
_REACHES = (0.1, 1.0)
"""Grid of starting points: noise variance, and the mean exponent of the kernel between two rows."""


class KernelProcess:
    """k(a, b) = sum over lines of l² <a, b> / d, + s² exp(-sum over columns c of w(c) (a_c - b_c)² / 2) + noise.

    Rasmussen and Williams 2006, chapters 2 and 5. Lines model additive effects, the smooth part all others. On one-hot
    columns that share a weight the exponent counts the genes in which two rows differ, and the smooth part is a product over
    genes: what one of them changes depends on all others. Parameters are those of greatest posterior density; the weights'
    prior is log-normal about a common weight, which is learnt first, and that of options' factors about 1.

    Args:
        scale: PLAIN, LOG or BEST.
        lines: blocks of columns, each a line with a variance of its own; none for the smooth part alone.
        smooth: columns of the smooth part.
        groups: for each of `smooth` the number of its weight from 0 on; empty gives all of them one weight.
        options: for each of `smooth` the number of its option's factor from 0 on, by which its group's weight is multiplied, -1
            for none. Genes with equal options share them: that pooling resembles skipping is learnt once, not for each layer.
            Empty for no factors; without groups they have no effect.
        standardise: divide `smooth` by the columns' deviations. Of the one-hot genes of a search's networks that makes rare
            options different from all others, and drops those not seen yet.
        weight_sigma: how far groups' weights spread about the common one, and options' factors about 1: the deviation of their
            logarithms.
        start: a fitted process of the same columns, whose parameters are the starting point.
    """

    minimum_rows = 3

    def __init__(
        self,
        *,
        scale: LabelScale,
        lines: Sequence[Sequence[int]],
        smooth: Sequence[int],
        groups: Sequence[int] = (),
        options: Sequence[int] = (),
        standardise: bool = True,
        weight_sigma: float = WEIGHT_SIGMA,
        start: KernelProcess | None = None,
    ) -> None:
        check_scale(scale, (LabelScale.PLAIN, LabelScale.LOG, LabelScale.BEST), "a Gaussian process")
        self.scale = scale
        self._blocks = [np.asarray(block, dtype=np.int64) for block in (*lines, smooth)]
        self._start, self._weight_sigma, self._standardise = start, weight_sigma, standardise
        self._given_groups = np.asarray(groups, dtype=np.int64)
        self._given_options = np.asarray(options if len(options) else [-1] * len(smooth), dtype=np.int64)
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array, errors: Array | None = None) -> None:
        """Learns (n, d) -> (n,).

        Args:
            features: Rows of the measured networks, (n, d); finite, at least 3 rows.
            labels: Measured value of each row, (n,); finite, and above 0 with LOG. With BEST, larger ones are better.
            errors: with LOG, known standard errors of the logarithms, (n,), in addition to the noise that all rows have; None
                for none.
        """
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self.scale.positive)
        self._labels = WarpedLabels.of(y, self._warp(y))
        self._errors = np.zeros(len(y)) if errors is None else errors
        label_variances = (self._errors / self._labels.unit) ** 2
        self._scalers = [Standardiser.of(x[:, block]) for block in self._blocks]
        if not self._standardise:
            self._scalers[-1] = Standardiser.identity(len(self._blocks[-1]))
        lines, smooth = self._rows(x)
        self._x, self._y = x, y
        self._learn(lines, smooth, label_variances)
        posterior_rows = self._posterior_rows = evenly_spaced(len(y), POSTERIOR_ROWS)
        self._lines, self._smooth = [line[posterior_rows] for line in lines], smooth[posterior_rows]
        kernel = self._kernel(self._lines, self._smooth)
        self._posterior = GaussianPosterior(
            kernel, self._noise + label_variances[posterior_rows], self._labels.z[posterior_rows]
        )
        self._n_columns = x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d); noise is part of the deviation. With LOG the mean is the median of the posterior.

        Args:
            features: Rows to predict, (m, d), with the columns of the fit; finite.
        """
        x = query_array(features, self._n_columns)
        return self._labels.prediction(*self._at(x))

    def latent(self, features: Array) -> tuple[Array, Array]:
        """Mean and deviation (m,) of the labels as they are fitted (with LOG, of logarithms), without their noise.

        Args:
            features: Rows to predict, (m, d), with the columns of the fit; finite.
        """
        mean, variance = self._noiseless(query_array(features, self._n_columns))
        return self._labels.centre + self._labels.unit * mean, self._labels.unit * np.sqrt(variance)

    def values(self, latent: Array) -> Array:
        """Labels of fitted ones, of any shape.

        Args:
            latent: Values in the terms of `latent`: with LOG logarithms of labels, with PLAIN labels, with BEST those of
                `best_warp`.
        """
        return self._labels.warp.inverse(latent)

    def _warp(self, labels: Array) -> Warp:
        if self.scale is LabelScale.BEST:
            return best_warp(labels)
        return LOG if self.scale is LabelScale.LOG else PLAIN

    def _at(self, x: Array) -> tuple[Array, Array]:
        """Mean and deviation (m,) in standardised terms of features (m, d)."""
        mean, variance = self._noiseless(x)
        return mean, np.sqrt(variance + self._noise)

    def _noiseless(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance (m,) in standardised terms of features (m, d)."""
        lines, smooth = self._rows(x)
        prior = np.exp(self._theta[self._n_lines]) + sum(
            np.exp(self._theta[i]) * (line**2).sum(axis=1) for i, line in enumerate(lines)
        )
        mean, variance = self._posterior.at(self._kernel(lines, smooth), prior)
        return mean, np.maximum(variance, 0.0)

    @property
    def closed_form(self) -> bool:
        """True if `held_out` needs no further fits."""
        return not len(self._given_groups) or len(self._y) > REFIT_ROWS

    def held_out(self, folds: Folds) -> Prediction:
        """Predictions of the training rows (n,), each without its fold.

        Closed form with the parameters of all rows; rows that are not in the posterior are held out as they are. Exception:
        with a weight per group and up to `REFIT_ROWS`, parameters are learnt again without each fold, because those of all
        rows fit themselves to the held-out labels, and errors look a fifth to a quarter too small.

        Args:
            folds: Indices of the rows that are held out together; each training row is in one fold.
        """
        if not self.closed_form:
            out = np.empty((4, len(self._y)))
            for fold in folds:
                training, again = rows_outside(fold, len(self._y)), self._again()
                again.fit(self._x[training], self._y[training], self._errors[training])
                mean, std = again._at(self._x[fold])
                each = again._labels.prediction(mean, np.hypot(std, self._errors[fold] / again._labels.unit))
                out[:, fold] = each.mean, each.std, each.low, each.high
            return Prediction(*out)
        place = np.full(len(self._y), -1)
        place[self._posterior_rows] = np.arange(len(self._posterior_rows))
        inside = [place[fold][place[fold] >= 0] for fold in folds]
        return self._labels.prediction(*self._completed(*self._posterior.held_out(inside)))

    def left_out_std(self, mean: Array) -> Array:
        """Deviation (n,) of the prediction of each training row without it, in the labels' unit, at predictions (n,).

        Args:
            mean: Predicted value of each training row, (n,), in the labels' unit, at which deviations of fitted labels are
                converted; with PLAIN it has no effect.
        """
        std = self._posterior.left_out_std()
        return self._labels.warp.slope(mean) * self._labels.unit * self._completed(std, std)[1]

    def _completed(self, mean: Array, std: Array) -> tuple[Array, Array]:
        """Mean and deviation of all training rows, each (n,), given those of the rows of the posterior."""
        out = np.empty((2, len(self._y)))
        out[:, self._posterior_rows] = mean, std
        other_rows = np.setdiff1d(np.arange(len(self._y)), self._posterior_rows)
        if len(other_rows):
            mean, std = self._at(self._x[other_rows])
            out[:, other_rows] = mean, np.hypot(std, self._errors[other_rows] / self._labels.unit)
        return out[0], out[1]

    @property
    def _n_lines(self) -> int:
        return len(self._blocks) - 1

    @property
    def _noise(self) -> float:
        return float(np.exp(self._theta[self._n_lines + 1])) + JITTER

    def _rows(self, x: Array) -> tuple[list[Array], Array]:
        """Standardised columns of the lines, at unit length of a row, and of the smooth part."""
        *lines, smooth = (scaler(x[:, block]) for scaler, block in zip(self._scalers, self._blocks, strict=True))
        return [line / np.sqrt(line.shape[1]) for line in lines], smooth

    def _kernel(self, lines: Sequence[Array], smooth: Array) -> Array:
        """Covariance with the training rows, without noise, (m, n)."""
        amplitudes = np.exp(self._theta[: self._n_lines])
        weights = column_weights(self._theta[self._n_lines + 2 :], self._groups, self._options)
        kernel: Array = np.exp(self._theta[self._n_lines] - distances(smooth, self._smooth, weights))
        for amplitude, line, training_line in zip(amplitudes, lines, self._lines, strict=True):
            kernel += amplitude * (line @ training_line.T)
        return kernel

    def _again(self) -> KernelProcess:
        """The same model, unfitted, with this one's parameters as starting point."""
        again = copy(self)
        again._start, again._n_columns = self, None
        return again

    def _learn(self, lines: Sequence[Array], smooth: Array, label_variances: Array) -> None:
        """Learns the common weight, then, with groups, their weights about it, from the rows' lines and smooth part."""
        # Evenly spaced, because the early rows of a search are random and the late ones are good.
        z, n = self._labels.z, len(self._y)
        some = evenly_spaced(n, LIKELIHOOD_ROWS)
        rows = smooth[some]
        grams = [line[some] @ line[some].T for line in lines]
        self._groups, self._names = np.zeros(rows.shape[1], dtype=np.int64), np.zeros(1, dtype=np.int64)
        self._options, self._option_names = np.full(rows.shape[1], -1), np.empty(0, dtype=np.int64)
        if self._start is None:
            self._theta = self._common(grams, rows, z[some], label_variances[some])
            head, self._weight = self._theta[:-1], float(self._theta[-1])
        else:
            head, self._weight = self._start._theta[: self._n_lines + 2], self._start._weight
        if not len(self._given_groups):
            return
        column_numbers = self._given_groups[self._scalers[-1].columns]
        self._names, self._groups = np.unique(column_numbers, return_inverse=True)
        column_numbers = self._given_options[self._scalers[-1].columns]
        self._option_names = np.unique(column_numbers[column_numbers >= 0])
        self._options = np.where(column_numbers >= 0, np.searchsorted(self._option_names, column_numbers), -1)
        before = {} if self._start is None else self._start._weights()
        weights = [before.get((0, name), self._weight) for name in self._names.tolist()]
        weights += [before.get((1, name), 0.0) for name in self._option_names.tolist()]
        grouped = Posterior(
            grams,
            rows,
            z[some],
            self._groups,
            self._options,
            label_variances[some],
            common=self._weight,
            weight_sigma=self._weight_sigma,
        )
        iterations = ITERATIONS if self._start is None else FEW_ITERATIONS
        self._theta = self._climb(grouped, np.concatenate([head, weights]), iterations)

    def _weights(self) -> dict[tuple[int, int], float]:
        """Logarithms of the weights by group, (0, its number), and by option, (1, its number)."""
        names = [*((0, name) for name in self._names.tolist()), *((1, name) for name in self._option_names.tolist())]
        return dict(zip(names, self._theta[self._n_lines + 2 :].tolist(), strict=True))

    def _common(self, grams: Sequence[Array], rows: Array, labels: Array, label_variances: Array) -> Array:
        """The likeliest parameters with one weight for all columns."""
        posterior = Posterior(grams, rows, labels, self._groups, self._options, label_variances)
        apart = max(float(distances(rows, rows, np.ones(rows.shape[1])).mean()), 1e-12)
        head = [np.log(0.3)] * self._n_lines
        starts = [
            np.array([*head, 0.0, np.log(noise), np.log(reach / apart)]) for noise, reach in product(_NOISES, _REACHES)
        ]
        iterations = FEW_ITERATIONS if len(self._given_groups) else ITERATIONS
        return self._climb(posterior, min(starts, key=lambda theta: posterior.loss(theta)[0]), iterations)

    def _climb(self, posterior: Posterior, start: Array, iterations: int) -> Array:
        n_scalars = self._n_lines + 2
        bounds = [(-9.0, 5.0)] * (n_scalars - 1) + [(np.log(LEAST_NOISE), np.log(2.0))]
        bounds += [(w - 6.0, w + 6.0) for w in start[n_scalars:]]
        options = {"maxiter": iterations}
        best: Array = minimize(posterior.loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        return best
