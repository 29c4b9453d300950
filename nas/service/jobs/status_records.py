"""Records statuses of runs that have no driver to do so, each under the run's lease, held for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nas.store.base import RunStatus, RunStore
from nas.store.folder import RunFolder
from nas.store.opening import open_store

_OPEN = (RunStatus.QUEUED, RunStatus.RUNNING)


def requeue(folder: RunFolder) -> None:
    """Records that a run that has ended is queued again; leaves any other as it is.

    Raises:
        RunHeldError: a live driver has the run.
        StoreError: its database cannot be read or written.
    """
    with _leased(folder) as store:
        if store.status() not in _OPEN:
            store.set_status(RunStatus.QUEUED)


def end(folder: RunFolder, status: RunStatus, reason: str) -> None:
    """Records the end of a run that waits, or whose driver is gone; leaves one that has ended as it is.

    Raises:
        RunHeldError, StoreError: as `requeue`.
    """
    with _leased(folder) as store:
        if store.status() in _OPEN:
            store.set_status(status, reason=reason)


@contextmanager
def _leased(folder: RunFolder) -> Iterator[RunStore]:
    store = open_store(folder, driver=True)
    try:
        yield store
    finally:
        store.close()
