"""Progress that a driver records in its run's store, where the status of the run shows it: pace, expected end and waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from nas.engine.progress import Pace, ProgressObserver
from nas.engine.search_progress import SearchProgress
from nas.engine.store.base import RunStore

_EVERY_S = 2.0
"""The store is written at most this often."""


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


class VisibleWaits:
    """The waits of one driver; one of an earlier driver, which was killed, has ended.

    Args:
        store: Store of the run; None before the run is made.
        clock: seconds since the epoch.
    """

    def __init__(
        self, store: RunStore | None, observer: ProgressObserver, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._observer, self._clock, self._since = store, observer, clock, 0.0
        if store is not None and store.state().waiting:
            store.update_state(waiting="")

    def begin(self, text: str) -> None:
        """Shows what the driver waits for, from now on."""
        self._since = self._clock()
        self._observer.waiting(text)
        if self._store is not None:
            self._store.update_state(waiting=text, waiting_since=self._since)

    def end(self) -> None:
        """Shows that the driver waits no longer; without a wait, nothing."""
        if not self._since:
            return
        self._since = 0.0
        self._observer.waiting("")
        if self._store is not None:
            self._store.update_state(waiting="")

    def progress(self, progress: SearchProgress) -> None:
        """Shows progress, which ends a wait, as one whose worker died."""
        self.end()
        self._observer.progress(progress)
