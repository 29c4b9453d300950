"""Statuses that the service itself gives runs: those that no driver has, and so none could."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nas.store.base import RunStatus, RunStore
from nas.store.folder import RunFolder
from nas.store.opening import open_store

_OPEN = (RunStatus.QUEUED, RunStatus.RUNNING)


def queue_again(folder: RunFolder) -> None:
    """Puts a run that has ended among those that wait; leaves any other as it is.

    Raises:
        RunHeldError: a live driver has the run.
        StoreError: its database cannot be read or written.
    """
    with _held(folder) as store:
        if store.status() not in _OPEN:
            store.set_status(RunStatus.QUEUED)


def end(folder: RunFolder, status: RunStatus, reason: str) -> None:
    """Ends a run that waits, or that its driver has left; leaves one that has ended as it did.

    Raises:
        RunHeldError, StoreError: as `queue_again`.
    """
    with _held(folder) as store:
        if store.status() in _OPEN:
            store.set_status(status, reason=reason)


@contextmanager
def _held(folder: RunFolder) -> Iterator[RunStore]:
    """A run's store under its lease, taken for a moment: nothing of what is seen of it can change meanwhile."""
    store = open_store(folder, driver=True)
    try:
        yield store
    finally:
        store.close()
