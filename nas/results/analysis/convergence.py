"""The quality of a search after each evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.engine.formatting import counted, shown_scale, title_of
from nas.results.analysis.fronts import broken_by
from nas.results.analysis.network_values import values_of
from nas.results.analysis.report import RunReport

CONVERGED = 0.99
"""The share of the final hypervolume at which a search counts as converged."""


@dataclass(frozen=True, slots=True)
class Convergence:
    """The quality of a search after each evaluation, (n,) each.

    Attributes:
        values: The hypervolume in per cent of its final value. With a single objective, the best value so far in the unit
            shown, NaN while no network satisfies the limits.
        name, title: Name of the curve, and title of its axis.
        close_at: The evaluation after which `CONVERGED` of the final value was reached; None with a single objective.
    """

    evaluations: NDArray[np.int64]
    values: NDArray[np.float64]
    close_at: int | None
    name: str = "hypervolume"
    title: str = "Hypervolume (% of its final value)"

    @property
    def close_text(self) -> str:
        """The label of `close_at`."""
        return f"{100 * CONVERGED:g} % after {counted(self.close_at or 0, 'evaluation')}"


def convergence(report: RunReport) -> Convergence | None:
    """The growth of the hypervolume, or the best value of a single objective; None while there is none above 0."""
    if not report.hypervolume:
        return None
    numbers = np.array([n for n, _ in report.hypervolume], dtype=np.int64)
    if len(report.objectives) == 1:
        return _best_so_far(report, numbers)
    volumes = np.array([volume for _, volume in report.hypervolume], dtype=np.float64)
    if volumes[-1] <= 0:
        return None
    share = 100.0 * volumes / volumes[-1]
    return Convergence(numbers, share, int(numbers[np.argmax(share >= 100.0 * CONVERGED)]))


def _best_so_far(report: RunReport, numbers: NDArray[np.int64]) -> Convergence | None:
    """The best value of a single objective after each evaluation, of the networks within the limits; None without any."""
    objective = report.primary
    satisfying = broken_by(report.evaluated, report.constraints) == 0
    if not satisfying.any():
        return None
    values = objective.sign * shown_scale(objective) * values_of(report.evaluated, objective.name)
    best = np.minimum.accumulate(np.where(satisfying, values, np.inf))
    shown = objective.sign * np.where(np.isfinite(best), best, np.nan)
    return Convergence(numbers, shown, None, "best so far", f"{title_of(objective)}, best so far")
