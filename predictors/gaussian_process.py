"""Gaussian process regression with few hyper-parameters, found by bounded maximum likelihood."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Kernel, WhiteKernel

from predictors.base import Array, Prediction
from predictors.checks import query_array, training_arrays
from predictors.errors import PredictorError
from predictors.intervals import LEVEL
from predictors.scale import LabelScale
from predictors.standardise import Standardiser
from predictors.subsample import evenly_spaced

LIKELIHOOD_ROWS = 200
"""Rows that hyper-parameters are learnt from at most: each likelihood costs n³, and three numbers need no more."""
ITERATIONS = 30
Z = float(norm.ppf(0.5 + LEVEL / 2))


class GaussianProcessPredictor:
    """Amplitude × Gaussian kernel + noise on standardised columns (Rasmussen and Williams 2006, chapter 5).

    On one-hot columns the Gaussian kernel is the exponential of the Hamming distance. A long length and a large
    amplitude make it linear, so that it does not lose to ridge where there is nothing but a line to learn.

    Args:
        scale: PLAIN or LOG.
        ard: a length of its own for each column (slower: the likelihood's gradient grows with them).
        hyperparameters: logarithms as in `hyperparameters` after a fit; None learns them. Cross-validation takes
            those of all rows for each fold: three numbers hardly fit themselves to a label.
    """

    minimum_rows = 3

    def __init__(
        self, *, scale: LabelScale = LabelScale.PLAIN, ard: bool = False, hyperparameters: Array | None = None
    ) -> None:
        if scale is LabelScale.RELATIVE:
            raise PredictorError("a Gaussian process fits plain or log labels, not relative ones; pass PLAIN or LOG")
        self.scale, self.ard = scale, ard
        self.hyperparameters = hyperparameters
        self._given = hyperparameters is not None
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,).

        Raises:
            PredictorError: see `training_arrays`; fewer than 3 rows.
        """
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self.scale.positive)
        targets = np.log(y) if self.scale is LabelScale.LOG else y
        self._standardise = Standardiser.of(x)
        self._centre, deviation = float(targets.mean()), float(targets.std())
        self._unit = deviation if deviation > 1e-12 * max(abs(self._centre), 1e-300) else 1.0
        rows, z = self._standardise(x), (targets - self._centre) / self._unit
        kernel = self._kernel(rows)
        if not self._given:
            # Evenly spaced, not the first: a search's early rows are random and its late ones are good.
            some = evenly_spaced(len(z), LIKELIHOOD_ROWS)
            self.hyperparameters = _most_likely(kernel, rows[some], z[some])
        kernel = kernel.clone_with_theta(self.hyperparameters)
        self._process = GaussianProcessRegressor(kernel, optimizer=None).fit(rows, z)
        self._n_columns = x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d); noise is part of the deviation. With LOG the mean is the median of the posterior.

        Raises:
            PredictorError: see `query_array`.
        """
        x = query_array(features, self._n_columns)
        if not len(x):
            return Prediction(np.empty(0), np.empty(0), np.empty(0), np.empty(0))
        centred, std = self._process.predict(self._standardise(x), return_std=True)
        mean, std = self._centre + self._unit * centred, self._unit * std
        low, high = mean - Z * std, mean + Z * std
        if self.scale is not LabelScale.LOG:
            return Prediction(mean, std, low, high)
        mean, low, high = (np.exp(np.clip(v, -700, 700)) for v in (mean, low, high))
        return Prediction(mean, mean * std, low, high)

    def left_out_std(self) -> Array:
        """Deviation (n,) that each training row would be predicted with, had it been left out, in fitted terms.

        With LOG these are deviations of the logarithm. Closed form: Rasmussen and Williams 2006, equation 5.12.
        """
        inverse = solve_triangular(self._process.L_, np.eye(len(self._process.L_)), lower=True)
        std: Array = self._unit / np.sqrt((inverse**2).sum(axis=0))
        return std

    def _kernel(self, rows: Array) -> Kernel:
        # Standardised rows are about sqrt(2 d) apart; distances outside a hundredth and ten times that tell nothing.
        apart = float(np.sqrt(rows.shape[1]))
        length = np.full(rows.shape[1], apart) if self.ard else apart
        smooth = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(length, (apart / 30, apart * 30))
        return smooth + WhiteKernel(0.1, (1e-5, 2.0))  # less noise than 0.3 % of the deviation is none


def _most_likely(kernel: Kernel, rows: Array, labels: Array) -> Array:
    """Logarithms of the hyper-parameters of greatest likelihood, by L-BFGS-B from the kernel's own."""
    process = GaussianProcessRegressor(kernel, optimizer=None).fit(rows, labels)

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient = process.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)
        return -float(value), -gradient

    # Called here, not by scikit-learn, whose warnings of a length at its bound would say nothing that a user can mend.
    found = minimize(
        loss, kernel.theta, jac=True, method="L-BFGS-B", bounds=kernel.bounds, options={"maxiter": ITERATIONS}
    )
    best: Array = found.x
    return best
