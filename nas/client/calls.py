"""What the groups of calls of the client share."""

from __future__ import annotations

from nas.client.transport import Transport, quoted

PATIENCE_S = 300.0
"""Seconds that a server may be gone while a run or a task is followed, e.g. while it is restarted."""


class Calls:
    """Calls of the API over one transport."""

    _transport: Transport


def path_of(run: str) -> str:
    """The path of a run in the API."""
    return f"runs/{quoted(run)}"
