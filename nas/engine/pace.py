"""The pace of a phase, and when it ends: for progress bars, and in a run's store for its pages."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nas.engine.progress import ProgressObserver

if TYPE_CHECKING:
    from nas.engine.search_progress import SearchProgress
    from nas.engine.store.base import RunStore

_PACE, _APART_S = 12, 0.5
"""The pace of a phase is that of its last changes (at most this number), each at least this number of seconds after the one
before: the measurements of a batch arrive together, and those of a resumed search all at once."""
_EVERY_S = 2.0
"""The store is written at most this often."""


class Pace:
    """How fast a phase goes, and so how long the rest of it takes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changes: deque[tuple[float, int]] = deque(maxlen=_PACE)

    def left(self, done: int, total: int) -> float | None:
        """Seconds that the rest takes at the present pace; None before there is one, and where nothing is left."""
        now, last = self._clock(), self._changes[-1] if self._changes else None
        if last is not None and now - last[0] < _APART_S:  # the same moment: as far as it got
            self._changes[-1] = (last[0], done)
        elif last is None or done != last[1]:
            self._changes.append((now, done))
        (began, before), (until, reached) = self._changes[0], self._changes[-1]
        if reached <= before or done >= total:
            return None
        return max(0.0, (until - began) / (reached - before) * (total - done) - (now - until))


class RecordedPace(ProgressObserver):
    """Records in a run's store how far its training is, and when its present phase ends at its pace.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, store: RunStore, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._phase, self._pace, self._written = "", Pace(clock), 0.0

    def step(self, step: int, steps: int, loss: float) -> None:
        if self._is_due("training"):
            self._store.update_state(step=step, steps=steps, expected_end=self._end(step, steps))

    def progress(self, progress: SearchProgress) -> None:
        if self._is_due(progress.phase):
            self._store.update_state(expected_end=self._end(progress.done, progress.total))

    def _is_due(self, phase: str) -> bool:
        now = self._clock()
        if phase != self._phase:
            self._phase, self._pace = phase, Pace(self._clock)
        elif self._written <= now < self._written + _EVERY_S:
            return False
        self._written = now
        return True

    def _end(self, done: int, total: int) -> float | None:
        left = self._pace.left(done, total)
        return None if left is None else self._clock() + left
