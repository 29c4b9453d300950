"""How a search went by the clock, and when it found what is on its front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.analysis.report import RunReport
from nas.store.base import RunStatus


@dataclass(frozen=True, slots=True)
class Timeline:
    """Where a search stood after each network that has figures.

    Attributes:
        evaluations: told until then, failed ones included, (n,).
        seconds: of searching since the first network was measured, (n,); the time without a driver, between a kill and
            the resume, is left out.
        found: by key of each member of the front, its position among the n.
    """

    evaluations: NDArray[np.int64]
    seconds: NDArray[np.float64]
    found: Mapping[str, int]


def timeline_of(report: RunReport, statuses: Sequence[tuple[RunStatus, float]]) -> Timeline:
    """The course of a search; empty while nothing is measured.

    Args:
        statuses: every status of the run with its time, see `RunStore.statuses`.
    """
    n = len(report.evaluated)
    numbers = [number for number, _ in report.hypervolume] or range(1, n + 1)
    starts = [at for status, at in statuses if status is RunStatus.RUNNING]
    places = report.evaluated.places
    found = {point.key: places[point.key] for point in report.front if point.key in places}
    return Timeline(np.array(numbers, dtype=np.int64), _searching(report.evaluated.committed, starts), found)


def _searching(committed: NDArray[np.float64], starts: Sequence[float]) -> NDArray[np.float64]:
    """Seconds since the first commit, (n,), without the pauses that ended with a driver's start."""
    if not len(committed):
        return committed
    times = np.maximum.accumulate(committed)
    seconds: NDArray[np.float64] = times - times[0]
    # Of drivers that measured nothing, one after the other, the pause ends with the last one's start.
    last = {int(np.searchsorted(times, start)): start for start in sorted(starts)}
    for after, start in last.items():
        if 0 < after < len(times):  # measured before and after: the driver before was gone for a while
            seconds[after:] -= start - times[after - 1]
    return seconds
