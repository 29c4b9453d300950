"""Linear models: the mean of the labels, ridge regression on all columns, and an affine function of one column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from predictors.base import Array, Prediction, query_array, training_arrays
from predictors.errors import PredictorError
from predictors.folds import Folds
from predictors.intervals import Spread
from predictors.label_scales import Bounds, LabelScale, Standardiser, check_scale, errors_of

_SCALES = (LabelScale.PLAIN, LabelScale.RELATIVE, LabelScale.LOG)


class MeanPredictor:
    """Predicts the mean of the labels for all features.

    Args:
        scale: LOG gives their geometric mean, RELATIVE the value of least squared relative error.

    Raises:
        PredictorError: the scale BEST.
    """

    minimum_rows = 2

    def __init__(self, *, scale: LabelScale = LabelScale.PLAIN) -> None:
        check_scale(scale, _SCALES, "the mean")
        self.scale = scale
        self._mean = 0.0
        self._spread = Spread(0.0, 0.0)
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,); the spread is that of leave-one-out errors.

        Args:
            features: Rows of the measured networks, (n, d); finite, at least 2 rows. Only their number has an effect.
            labels: Measured value of each row, (n,); finite, and above 0 with LOG or RELATIVE.
        """
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self.scale.positive)
        weights = y**-2 if self.scale is LabelScale.RELATIVE else np.ones_like(y)
        targets = np.log(y) if self.scale is LabelScale.LOG else y
        total, weighted = weights.sum(), float(weights @ targets)
        left_out = (weighted - weights * targets) / (total - weights)
        mean = weighted / float(total)
        if self.scale is LabelScale.LOG:
            mean, left_out = float(np.exp(mean)), np.exp(left_out)
        self._mean, self._n_columns = mean, x.shape[1]
        self._spread = Spread.of(errors_of(y, left_out, ratio=self.scale.positive))

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d).

        Args:
            features: Rows to predict, (m, d), with the columns of the fit; finite. All get the same prediction.
        """
        x = query_array(features, self._n_columns)
        return self._spread.around(np.full(len(x), self._mean), ratio=self.scale.positive)


PENALTIES: tuple[float, ...] = tuple(float(p) for p in 10.0 ** np.arange(-6.0, 2.01, 0.5))
"""Penalties tried, per training row, for columns of deviation 1."""


class RidgePredictor:
    """Ridge regression on standardised columns; the penalty has the least leave-one-out error, in closed form.

    For each penalty, row i's leave-one-out error is ``residual_i / (1 - leverage_i)`` (Allen 1974's PRESS), from one
    singular value decomposition. The intercept is not penalised. The spread is that of the same leave-one-out errors.

    Args:
        scale: RELATIVE weighs each row by 1 / label²; LOG fits the logarithm.
        columns: indices of the columns to use, all where None.
        penalties: Penalties to choose from, one or more, at least 0: per training row, for columns of deviation 1.

    Raises:
        PredictorError: the scale BEST.
    """

    minimum_rows = 3

    def __init__(
        self,
        *,
        scale: LabelScale = LabelScale.PLAIN,
        columns: Sequence[int] | None = None,
        penalties: Sequence[float] = PENALTIES,
    ) -> None:
        check_scale(scale, _SCALES, "ridge regression")
        self.scale = scale
        self.penalties = tuple(penalties)
        self._columns = None if columns is None else np.asarray(columns, dtype=np.int64)
        self._n_columns: int | None = None
        self._bounds = Bounds(-np.inf, np.inf)

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,).

        Args:
            features: Rows of the measured networks, (n, d); finite, at least 3 rows.
            labels: Measured value of each row, (n,); finite, and above 0 with LOG or RELATIVE.
        """
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self.scale.positive)
        targets = np.log(y) if self.scale is LabelScale.LOG else y
        self._bounds = Bounds.of(y, ratio=self.scale.positive)
        weights = y**-2 / np.mean(y**-2) if self.scale is LabelScale.RELATIVE else np.ones_like(y)
        self._standardise = Standardiser.of(self._selected(x), weights)
        self._intercept = float(np.average(targets, weights=weights))
        root = np.sqrt(weights)
        rows = self._standardise(self._selected(x)) * root[:, None]
        centred = (targets - self._intercept) * root

        u, singular, vt = np.linalg.svd(rows, full_matrices=False)
        significant = singular > 1e-10 * max(float(singular[0]), 1e-300)
        u, singular, vt = u[:, significant], singular[significant], vt[significant]
        shrink = singular**2 / (singular**2 + len(y) * np.asarray(self.penalties)[:, None])  # (penalties, rank)
        projected = u.T @ centred
        leverage = (u**2) @ shrink.T + (weights / weights.sum())[:, None]  # (n, penalties)
        residual = centred[:, None] - u @ (shrink * projected).T
        # A row that alone determines a coefficient has leverage 1 and residual 0: its error is unknown and counts as 0.
        # The bound lies far below what the smallest penalty leaves (about 1e-7), or overfitting would look good.
        left_out = residual / np.maximum(1.0 - leverage, 1e-11)
        best = int(np.argmin(np.mean(left_out**2, axis=0)))
        self.penalty = self.penalties[best]
        self._coefficients = vt.T @ (shrink[best] * projected / singular)
        self._n_columns = x.shape[1]
        self._targets, self._root, self._residual = targets, root, residual[:, best]
        self._u, self._shrink = u, shrink[best]
        means = self._label(targets - left_out[:, best] / root)
        self._spread = Spread.of(errors_of(y, means, ratio=self.scale.positive))

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d); of positive labels within `Bounds`.

        Args:
            features: Rows to predict, (m, d), with the columns of the fit; finite. No rows give empty predictions.
        """
        x = query_array(features, self._n_columns)
        mean = self._label(self._intercept + self._standardise(self._selected(x)) @ self._coefficients)
        return self._spread.around(mean, ratio=self.scale.positive)

    def held_out(self, folds: Folds) -> Prediction:
        """Predictions of the training rows (n,), each without its fold, with the penalty and the scaling of all rows.

        Closed form: the errors of a fold are its residuals by the inverse of 1 - hat matrix (Allen 1974, for blocks).

        Args:
            folds: Indices of the rows that are held out together; each training row is in one fold.
        """
        errors = np.empty_like(self._targets)
        for fold in folds:
            u, root = self._u[fold], self._root[fold]
            hat = (u * self._shrink) @ u.T + np.outer(root, root) / float(self._root @ self._root)
            system = np.eye(len(fold)) * (1.0 + 1e-11) - hat
            errors[fold] = np.linalg.lstsq(system, self._residual[fold], rcond=1e-11)[0]
        return self._spread.around(self._label(self._targets - errors / self._root), ratio=self.scale.positive)

    def _label(self, targets: Array) -> Array:
        """Labels from fitted targets; beyond e^±700 floats end."""
        labels = np.exp(np.clip(targets, -700, 700)) if self.scale is LabelScale.LOG else targets
        return self._bounds.clip(labels)

    def _selected(self, x: Array) -> Array:
        if self._columns is None:
            return x
        if len(self._columns) and not 0 <= self._columns.min() <= self._columns.max() < x.shape[1]:
            fault = f"the model uses columns {self._columns.tolist()}; the features have {x.shape[1]}"
            raise PredictorError(fault, code="predictor.invalid-features")
        return x[:, self._columns]


class ColumnLinearPredictor(RidgePredictor):
    """An affine function of one column, by least squares: latency from MACs, for instance.

    Args:
        column: Index of the column, from 0.
        scale: RELATIVE weighs each row by 1 / label²; LOG fits the logarithm.
    """

    def __init__(self, column: int, *, scale: LabelScale = LabelScale.PLAIN) -> None:
        super().__init__(scale=scale, columns=[column], penalties=[0.0])
