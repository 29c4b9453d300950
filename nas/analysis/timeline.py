"""The progress of a search over time, and when it found the members of its front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.analysis.report import RunReport
from nas.store.base import RunStatus


@dataclass(frozen=True, slots=True)
class Timeline:
    """Evaluations and search time after each measured network.

    Attributes:
        evaluations: their number, failed ones included, (n,).
        seconds: search time since the first measured network, (n,), without the pauses between two drivers.
        found: position of each member of the front among the n, by key.
    """

    evaluations: NDArray[np.int64]
    seconds: NDArray[np.float64]
    found: Mapping[str, int]


def timeline_of(report: RunReport, statuses: Sequence[tuple[RunStatus, float]]) -> Timeline:
    """The timeline of a search; empty while nothing is measured.

    Args:
        statuses: of the run, see `RunStore.statuses`.
    """
    n = len(report.evaluated)
    numbers = [number for number, _ in report.hypervolume] or range(1, n + 1)
    starts = [at for status, at in statuses if status is RunStatus.RUNNING]
    places = report.evaluated.places
    found = {point.key: places[point.key] for point in report.front if point.key in places}
    return Timeline(np.array(numbers, dtype=np.int64), _searching(report.evaluated.committed, starts), found)


def _searching(committed: NDArray[np.float64], starts: Sequence[float]) -> NDArray[np.float64]:
    """Seconds since the first commit, (n,), without the pauses before each driver's start."""
    if not len(committed):
        return committed
    times = np.maximum.accumulate(committed)
    seconds: NDArray[np.float64] = times - times[0]
    # After drivers that measured nothing, the pause ends with the start of the last one.
    last = {int(np.searchsorted(times, start)): start for start in sorted(starts)}
    for after, start in last.items():
        if 0 < after < len(times):  # between two measurements: a pause
            seconds[after:] -= start - times[after - 1]
    return seconds
