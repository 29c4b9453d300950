"""A Gaussian process that is lines plus a smooth function of genes, each gene with a weight of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.stats import norm

from predictors.base import Array, Prediction
from predictors.checks import query_array, training_arrays
from predictors.errors import PredictorError
from predictors.folds import Folds, held_out
from predictors.intervals import LEVEL
from predictors.kernel_likelihood import JITTER, WEIGHT_SIGMA, Posterior, distances
from predictors.scale import LabelScale
from predictors.standardise import Standardiser
from predictors.subsample import evenly_spaced

LIKELIHOOD_ROWS = 200
"""Rows that parameters are learnt from at most; each likelihood costs n³."""
ITERATIONS = 30
FEW_ITERATIONS = 12
"""Where the search starts near its end, or another one follows: more changed no error on published tables."""
REFIT_ROWS = 150
LEAST_NOISE = 1e-6
"""Some published latencies are sums from a table of operators: there, a line has next to no noise."""
_NOISES = (1e-3, 3e-2)
_REACHES = (0.1, 1.0)
"""Grid that the climb starts from: noise variance, and the exponent at which two rows stand on the average."""
_Z = float(norm.ppf(0.5 + LEVEL / 2))


class KernelProcess:
    """k(a, b) = sum over lines of l² <a, b> / d, + s² exp(-sum over columns c of w(c) (a_c - b_c)² / 2) + noise.

    Rasmussen and Williams 2006, chapters 2 and 5. Lines take what adds up, the smooth part what does not. On one-hot
    columns that share a weight the exponent counts the genes in which two rows differ. Parameters are those of greatest
    posterior density; the weights' prior is log-normal about a common weight, which is learnt first.

    Args:
        scale: PLAIN or LOG.
        lines: blocks of columns, each a line with a variance of its own; none for the smooth part alone.
        smooth: columns of the smooth part.
        groups: for each of `smooth` the number of its weight from 0 on; empty gives all of them one weight.
        weight_sigma: how far groups' weights spread about the common one: the deviation of their logarithms.
        least_noise: variance of the noise at least, for labels of deviation 1.
        start: a fitted process of the same columns, whose parameters the search for this one's begins with.
    """

    minimum_rows = 3

    def __init__(
        self,
        *,
        scale: LabelScale,
        lines: Sequence[Sequence[int]],
        smooth: Sequence[int],
        groups: Sequence[int] = (),
        weight_sigma: float = WEIGHT_SIGMA,
        least_noise: float = LEAST_NOISE,
        start: KernelProcess | None = None,
    ) -> None:
        if scale is LabelScale.RELATIVE:
            raise PredictorError("a Gaussian process fits plain or log labels, not relative ones; pass PLAIN or LOG")
        self.scale = scale
        self._blocks = [np.asarray(block, dtype=np.int64) for block in (*lines, smooth)]
        self._lines_given, self._smooth_given, self._start = lines, smooth, start
        self._weight_sigma, self._least_noise = weight_sigma, least_noise
        self._given_groups = np.asarray(groups, dtype=np.int64)
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,).

        Raises:
            PredictorError: see `training_arrays`; fewer than 3 rows.
        """
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self.scale.positive)
        targets = np.log(y) if self.scale is LabelScale.LOG else y
        self._centre, deviation = float(targets.mean()), float(targets.std())
        self._unit = deviation if deviation > 1e-12 * max(abs(self._centre), 1e-300) else 1.0
        self._scalers = [Standardiser.of(x[:, block]) for block in self._blocks]
        self._lines, self._smooth = self._rows(x)
        self._x, self._y = x, y
        self._z = (targets - self._centre) / self._unit
        self._learn()
        kernel = self._kernel(self._lines, self._smooth)
        kernel[np.diag_indices_from(kernel)] += self._noise
        self._factor = cho_factor(kernel, lower=True)
        self._alpha = cho_solve(self._factor, self._z)
        self._n_columns = x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d); noise is part of the deviation. With LOG the mean is the median of the posterior.

        Raises:
            PredictorError: see `query_array`.
        """
        lines, smooth = self._rows(query_array(features, self._n_columns))
        cross = self._kernel(lines, smooth)
        solved = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        own = np.exp(self._theta[self._n_lines]) + sum(
            np.exp(self._theta[i]) * (line**2).sum(axis=1) for i, line in enumerate(lines)
        )
        variance = np.maximum(own - np.einsum("ij,ij->j", solved, solved), 0.0) + self._noise
        return self._prediction(cross @ self._alpha, np.sqrt(variance))

    @property
    def closed_form(self) -> bool:
        """Whether `held_out` needs no further fits."""
        return not len(self._given_groups) or len(self._z) > REFIT_ROWS

    def held_out(self, folds: Folds) -> Prediction:
        """Predictions of the training rows (n,), each without its fold.

        Closed form with the parameters of all rows, as for leaving one out (Rasmussen and Williams 2006, section 5.4.2),
        but for a weight a group and up to `REFIT_ROWS`: then parameters are learnt again without each fold. There, those
        of all rows fit themselves to the labels held out, and errors look a fifth to a quarter too small.
        """
        if not self.closed_form:
            return held_out(self._again, self._x, self._y, folds)
        inverse = cho_solve(self._factor, np.eye(len(self._z)))
        mean, variance = np.empty_like(self._z), np.empty_like(self._z)
        for fold in folds:
            covariance = np.linalg.inv(inverse[np.ix_(fold, fold)])
            mean[fold] = self._z[fold] - covariance @ self._alpha[fold]
            variance[fold] = np.diag(covariance)
        return self._prediction(mean, np.sqrt(np.maximum(variance, JITTER)))

    def left_out_std(self) -> Array:
        """Deviation (n,) that each training row would be predicted with, had it been left out, in fitted terms.

        With LOG these are deviations of the logarithm. Closed form: Rasmussen and Williams 2006, equation 5.12.
        """
        inverse = solve_triangular(self._factor[0], np.eye(len(self._z)), lower=True)
        std: Array = self._unit / np.sqrt((inverse**2).sum(axis=0))
        return std

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
        amplitudes, weights = np.exp(self._theta[: self._n_lines]), np.exp(self._theta[self._n_lines + 2 :])
        kernel: Array = np.exp(self._theta[self._n_lines] - distances(smooth, self._smooth, weights[self._groups]))
        for amplitude, one, two in zip(amplitudes, lines, self._lines, strict=True):
            kernel += amplitude * (one @ two.T)
        return kernel

    def _again(self) -> KernelProcess:
        """The same model, unfitted, to start from this one's parameters."""
        return KernelProcess(
            scale=self.scale,
            lines=self._lines_given,
            smooth=self._smooth_given,
            groups=self._given_groups.tolist(),
            weight_sigma=self._weight_sigma,
            least_noise=self._least_noise,
            start=self,
        )

    def _learn(self) -> None:
        """The common weight first, then, where there are groups, theirs about it."""
        # Evenly spaced, not the first: a search's early rows are random and its late ones are good.
        n = len(self._z)
        some = evenly_spaced(n, LIKELIHOOD_ROWS)
        rows = self._smooth[some]
        grams = [line[some] @ line[some].T for line in self._lines]
        self._groups, self._names = np.zeros(rows.shape[1], dtype=np.int64), np.zeros(1, dtype=np.int64)
        if self._start is None:
            self._theta = self._common(grams, rows, self._z[some])
            head, self._weight = self._theta[:-1], float(self._theta[-1])
        else:
            head, self._weight = self._start._theta[: self._n_lines + 2], self._start._weight
        if not len(self._given_groups):
            return
        kept = self._given_groups[self._scalers[-1].kept]
        self._names, self._groups = np.unique(kept, return_inverse=True)
        before = {} if self._start is None else self._start._weights()
        weights = np.array([before.get(int(name), self._weight) for name in self._names])
        grouped = Posterior(
            grams, rows, self._z[some], self._groups, common=self._weight, weight_sigma=self._weight_sigma
        )
        iterations = ITERATIONS if self._start is None else FEW_ITERATIONS
        self._theta = self._climb(grouped, np.concatenate([head, weights]), iterations)

    def _weights(self) -> dict[int, float]:
        """Logarithm of the weight by group."""
        return dict(zip(self._names.tolist(), self._theta[self._n_lines + 2 :].tolist(), strict=True))

    def _common(self, grams: Sequence[Array], rows: Array, labels: Array) -> Array:
        """The likeliest parameters with one weight for all columns."""
        posterior = Posterior(grams, rows, labels, self._groups)
        apart = max(float(distances(rows, rows, np.ones(rows.shape[1])).mean()), 1e-12)
        head = [np.log(0.3)] * self._n_lines
        starts = [
            np.array([*head, 0.0, np.log(noise), np.log(reach / apart)]) for noise, reach in product(_NOISES, _REACHES)
        ]
        iterations = FEW_ITERATIONS if len(self._given_groups) else ITERATIONS
        return self._climb(posterior, min(starts, key=lambda theta: posterior.loss(theta)[0]), iterations)

    def _climb(self, posterior: Posterior, start: Array, iterations: int) -> Array:
        n_scalars = self._n_lines + 2
        bounds = [(-9.0, 5.0)] * (n_scalars - 1) + [(np.log(self._least_noise), np.log(2.0))]
        bounds += [(w - 6.0, w + 6.0) for w in start[n_scalars:]]
        found = minimize(
            posterior.loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations}
        )
        best: NDArray[np.float64] = found.x
        return best

    def _prediction(self, centred: Array, std: Array) -> Prediction:
        mean, std = self._centre + self._unit * centred, self._unit * std
        low, high = mean - _Z * std, mean + _Z * std
        if self.scale is not LabelScale.LOG:
            return Prediction(mean, std, low, high)
        mean, low, high = (np.exp(np.clip(v, -700, 700)) for v in (mean, low, high))
        return Prediction(mean, mean * std, low, high)
