"""Shows what a driver waits for: on its terminal, and in the store, where the status of its run shows it."""

from __future__ import annotations

import time
from collections.abc import Callable

from nas.engine.formatting import duration
from nas.engine.progress import ProgressObserver
from nas.engine.search_progress import SearchProgress
from nas.engine.store.base import RunStore

_LONG_S = 5.0
"""A wait of at least this time is noted when it ends, too."""


class VisibleWaits:
    """The waits of one driver; one of an earlier driver, which was killed, has ended.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, store: RunStore, observer: ProgressObserver, clock: Callable[[], float] = time.time) -> None:
        self._store, self._observer, self._clock, self._since = store, observer, clock, 0.0
        if store.state().waiting:
            store.update_state(waiting="")

    def begin(self, text: str) -> None:
        """Shows what the driver waits for, from now on."""
        self._since = self._clock()
        self._observer.waiting(text)
        self._store.update_state(waiting=text, waiting_since=self._since)

    def end(self) -> None:
        """Shows that the driver waits no longer; without a wait, nothing."""
        if not self._since:
            return
        waited_s, self._since = self._clock() - self._since, 0.0
        self._observer.waiting("")
        if waited_s >= _LONG_S:
            self._observer.note(f"waited {duration(waited_s)}")
        self._store.update_state(waiting="")

    def progress(self, progress: SearchProgress) -> None:
        """Shows progress, which ends a wait, as one whose worker died."""
        self.end()
        self._observer.progress(progress)
