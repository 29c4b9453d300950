"""What the charts of a run share, whichever library draws them: titles, scales and the convergence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.engine.formatting import shown_scale, title_of
from nas.results.analysis.fronts import broken_by
from nas.results.analysis.network_values import values_of
from nas.results.analysis.report import RunReport

LOG_SPAN = 8.0
"""An axis is logarithmic where its largest value is at least this many times its smallest."""
CONVERGED = 0.99
"""The share of the final hypervolume at which a search counts as converged."""
MANY_POINTS = 1000
"""More points than this are drawn as an image."""
PICTURES = {
    "course": "Convergence over time",
    "predictors": "Predictions compared with later measurements",
    "genes": "Important genes, and options on the front",
}
"""Titles of the pictures of a run's insight, by file name."""

Array = NDArray[np.float64]


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
    values: Array
    close_at: int | None
    name: str = "hypervolume"
    title: str = "Hypervolume (% of its final value)"

    @property
    def close_text(self) -> str:
        """The label of `close_at`."""
        return f"{100 * CONVERGED:g} % after {self.close_at} evaluations"

    @property
    def close_late(self) -> bool:
        """True if `close_at` lies so far to the right that its label belongs on its left."""
        return self.close_at is not None and self.close_at > 0.6 * int(self.evaluations[-1])


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


def log_ticks(values: Array) -> list[float]:
    """Ticks of a logarithmic axis, from below some values to above them; none where the axis is to be linear."""
    smallest, largest = float(values.min()), float(values.max())
    if smallest <= 0 or largest / smallest < LOG_SPAN:
        return []
    powers = range(math.floor(math.log10(smallest)), math.ceil(math.log10(largest)) + 1)
    return [digit * 10.0**power for power in powers for digit in (1, 2, 5)]


def heading(report: RunReport) -> tuple[str, str]:
    """The run's title, and a line of its profiles, size and state."""
    title = report.run if report.run.startswith(report.name) else f"{report.name} · {report.run}"  # ids are NAME-N
    timed = {metric.profile for metric in report.columns}
    profiles = ", ".join(profile for profile in report.profiles if profile in timed)
    front_text = f"{len(report.front)} on the front"
    if report.nearest is not None and report.nearest.miss.broken:
        front_text = "none satisfies the limits"
    count = f"{report.evaluations_text}, {front_text}"
    return title, " · ".join(part for part in (profiles, count, str(report.status)) if part)
