"""Shows what a driver waits for: on its terminal, and in the store, where the status of its run shows it."""

from __future__ import annotations

from nas.engine.progress import ProgressObserver
from nas.engine.search_progress import SearchProgress
from nas.store.base import RunStore


class VisibleWaits:
    """The waits of one driver; one of an earlier driver, which was killed, has ended."""

    def __init__(self, store: RunStore, observer: ProgressObserver) -> None:
        self._store, self._observer, self._waiting = store, observer, bool(store.state().waiting)
        self._end()

    def begin(self, text: str) -> None:
        """Shows why the driver waits now, and how long."""
        self._observer.note(text)
        self._store.update_state(waiting=text)
        self._waiting = True

    def progress(self, progress: SearchProgress) -> None:
        """Shows progress, which ends a wait."""
        self._end()
        self._observer.progress(progress)

    def _end(self) -> None:
        if self._waiting:
            self._store.update_state(waiting="")
            self._waiting = False
