"""A run's status as people read it."""

from __future__ import annotations

from nas.store.base import RunStatus

INTERRUPTED, NEVER_STARTED = "interrupted", "never started"


def shown_status(status: str, *, live: bool) -> str:
    """A stored status in words: a running run without a driver was interrupted."""
    if not live and status == RunStatus.RUNNING:
        return INTERRUPTED
    if not live and status == RunStatus.QUEUED:
        return NEVER_STARTED
    return status
