"""Accuracy of predictions that were made before the networks were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.engine.store.base import Fit
from nas.results.analysis.network_values import values_of
from nas.results.analysis.report import RunReport
from predictors.folds import evenly_spaced
from supernets.space import Architecture

_Z = 1.6448536269514722
"""Of a normal distribution, 90 % lie within this many standard deviations."""
_PAIRED = 1000
"""Kendall's tau is computed for at most this many predictions, evenly spaced: it compares every pair."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PredictorAccuracy:
    """Predictions of one objective for networks that were then asked for and measured.

    Networks are asked for because of good predictions, so measured values tend to be worse than predicted, and rank
    agreement among these networks is harder than over the whole space.

    Attributes:
        step: Step of each prediction, (n,).
        predicted, std, measured: Predicted mean, predicted deviation and measured value, in the objective's unit, (n,) each.
    """

    step: NDArray[np.int64]
    predicted: Array
    std: Array
    measured: Array

    @property
    def kendall_tau(self) -> float:
        """Rank agreement of predicted and measured, tau-b (Kendall 1945), by all pairs; NaN where either is constant."""
        some = evenly_spaced(len(self.step), _PAIRED)
        signs = _signs(self.predicted[some]), _signs(self.measured[some])
        untied = math.sqrt(float(np.count_nonzero(signs[0])) * float(np.count_nonzero(signs[1])))
        return float(np.vdot(*signs)) / untied if untied else math.nan

    @property
    def mape(self) -> float:
        """Mean absolute error relative to the measured values, as a share; NaN where one of them is 0."""
        if (self.measured == 0).any():
            return math.nan
        return float(np.mean(np.abs((self.predicted - self.measured) / self.measured)))

    @property
    def rmse(self) -> float:
        """Root mean square error, in the objective's unit."""
        return float(np.sqrt(np.mean((self.predicted - self.measured) ** 2)))

    @property
    def errors(self) -> dict[str, float | None]:
        """``mape`` and ``rmse``; None where it is undefined."""
        return {"mape": None if math.isnan(self.mape) else self.mape, "rmse": self.rmse}

    @property
    def bias(self) -> float:
        """Mean of predicted minus measured, in the objective's unit."""
        return float(np.mean(self.predicted - self.measured))

    @property
    def coverage(self) -> float:
        """The share of measured values within the 90 % prediction interval."""
        return float(np.mean(np.abs(self.measured - self.predicted) <= _Z * self.std))


def predictor_accuracy_of(
    report: RunReport, fits: Sequence[Fit], asks: Sequence[Sequence[Architecture]]
) -> dict[str, PredictorAccuracy]:
    """Accuracy by the name of each objective that was predicted before it was measured."""
    places = report.evaluated.places
    measured = {o.name: values_of(report.evaluated, o.name).tolist() for o in report.objectives}
    step_by_key = {architecture.key: step for step, batch in enumerate(asks) for architecture in batch}
    rows: dict[str, list[tuple[int, float, float, float]]] = {o.name: [] for o in report.objectives}
    for fit in (fit for fit in fits if fit.objective in rows):  # a report may be of one profile alone
        predictions: Mapping[str, Sequence[float | None]] = fit.quality["predictions"]
        for key, (mean, std) in predictions.items():
            # Only the step that asked for it: predictions after the search are followed by no measurement.
            if step_by_key.get(key) == fit.step and key in places and mean is not None and std is not None:
                rows[fit.objective].append((fit.step, mean, std, measured[fit.objective][places[key]]))
    return {
        name: PredictorAccuracy(np.array([row[0] for row in pairs], dtype=np.int64), *np.array(pairs).T[1:])
        for name, pairs in rows.items()
        if pairs
    }


def _signs(values: Array) -> NDArray[np.float32]:
    """The sign of the difference of each pair of values, (n, n); float32 sums of a million signs are exact."""
    above = values[:, None] > values[None, :]
    return above.astype(np.float32) - above.T
