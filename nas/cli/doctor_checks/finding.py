"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well as it could."""
    WRONG = "wrong"
    """Some commands will fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        found: the current state.
        remedy: what to do about it; "" if nothing is wrong.
    """

    check: str
    state: State
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, State.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, State.WARNING, found, remedy)


def wrong(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, State.WRONG, found, remedy)
