"""What a check finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, less well than it could."""
    WRONG = "wrong"
    """Something that a user asks for will fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        found: what there is.
        remedy: what to do about it; "" where nothing is to be done.
    """

    check: str
    state: State
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """What `nas doctor --json` prints of it."""
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    return Finding(check, State.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, State.WARNING, found, remedy)


def wrong(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, State.WRONG, found, remedy)
