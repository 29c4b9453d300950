"""Cross-validated scores of a fit and of its baselines."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Self

import numpy as np
from scipy.stats import kendalltau

from predictors.base import Array
from predictors.folds import Folds, held_out, rows_outside
from predictors.intervals import Spread
from predictors.label_scales import Bounds, LabelScale, errors_of, shifted
from predictors.linear import MeanPredictor, RidgePredictor


@dataclass(frozen=True, slots=True)
class Scores:
    """Agreement of held-out predictions with their labels; NaN where a score is undefined.

    Attributes:
        kendall_tau: rank agreement, tau-b, -1 to 1; NaN for constant labels or constant predictions.
        mape: mean absolute error relative to the label, as a share; NaN where a label is 0.
        rmse: root mean square error, in the unit of the labels.
        coverage: share of labels inside their 90 % interval; NaN where no interval was given.
    """

    kendall_tau: float
    mape: float
    rmse: float
    coverage: float

    @classmethod
    def of(cls, labels: Array, mean: Array, low: Array | None = None, high: Array | None = None) -> Scores:
        """Scores of predictions (n,) with, where known, their intervals; all NaN for no rows.

        Rows whose label is NaN (a failed measurement) are left out.
        """
        is_measured = ~np.isnan(labels)
        y, m = labels[is_measured], mean[is_measured]
        if not len(y):
            return cls(math.nan, math.nan, math.nan, math.nan)
        tau = float(kendalltau(y, m).statistic) if len(y) > 1 and np.ptp(y) > 0 and np.ptp(m) > 0 else math.nan
        mape = float(np.mean(np.abs((m - y) / y))) if (y != 0).all() else math.nan
        coverage = math.nan
        if low is not None and high is not None:
            coverage = float(np.mean((low[is_measured] <= y) & (y <= high[is_measured])))
        return cls(tau, mape, float(np.sqrt(np.mean((m - y) ** 2))), coverage)

    @classmethod
    def held_out(cls, labels: Array, mean: Array, folds: Folds, *, ratio: bool, widths: Array | None = None) -> Scores:
        """Scores of cross-validated predictions; each fold's interval comes from the errors of the other folds."""
        errors = errors_of(labels, mean, ratio=ratio)
        low, high = np.empty_like(mean), np.empty_like(mean)
        for fold in folds:
            training = rows_outside(fold, len(labels))
            half = Spread.of(errors[training], None if widths is None else widths[training]).half
            reach = half * (1.0 if widths is None else widths[fold])
            low[fold] = shifted(mean[fold], -reach, ratio=ratio)
            high[fold] = shifted(mean[fold], reach, ratio=ratio)
        return cls.of(labels, mean, low, high)

    def to_json(self) -> dict[str, float | None]:
        """Plain data with None for NaN, which JSON lacks."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Quality:
    """Cross-validated quality of a fit and of two baselines on the same folds.

    The model was chosen on these folds, so that its scores are slightly optimistic; those of the baselines are not.

    Attributes:
        model: its description, e.g. ``70 % ridge (log), 30 % LightGBM``.
        n: training rows.
        scores: scores of the fit.
        mean: scores of the first baseline, the mean of the labels.
        ridge: scores of the second baseline, ridge regression on all columns.
    """

    model: str
    n: int
    scores: Scores
    mean: Scores
    ridge: Scores

    @classmethod
    def cross_validated(
        cls, model: str, features: Array, labels: Array, scores: Scores, folds: Folds, *, ratio: bool
    ) -> Self:
        """The quality of a model whose scores are known, with baselines that are fitted on the same folds.

        Args:
            features, labels: The training rows, (n, d) and (n,).
            ratio: Errors count as ratios.
        """
        bounds = Bounds.of(labels, ratio=ratio)
        baselines = (
            partial(MeanPredictor, scale=LabelScale.LOG if ratio else LabelScale.PLAIN),
            partial(RidgePredictor, scale=LabelScale.RELATIVE if ratio else LabelScale.PLAIN),
        )
        means = [bounds.clip(held_out(make, features, labels, folds).mean) for make in baselines]
        mean, ridge = (Scores.held_out(labels, each, folds, ratio=ratio) for each in means)
        return cls(model, len(labels), scores, mean, ridge)

    def to_json(self) -> dict[str, object]:
        """Plain data: ``{"model", "n", "kendall_tau", "mape", "rmse", "coverage", "baselines": {"mean", "ridge"}}``."""
        baselines = {"mean": self.mean.to_json(), "ridge": self.ridge.to_json()}
        return {"model": self.model, "n": self.n, **self.scores.to_json(), "baselines": baselines}
