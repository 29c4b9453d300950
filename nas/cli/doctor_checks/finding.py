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
        observation: The current state.
        remedy: The action that mends it; "" if nothing is wrong.
    """

    check: str
    state: State
    observation: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """The finding as `nas doctor --json` prints it."""
        return {"check": self.check, "state": self.state, "found": self.observation, "remedy": self.remedy}


def ok(check: str, observation: str) -> Finding:
    return Finding(check, State.OK, observation)


def warning(check: str, observation: str, remedy: str) -> Finding:
    return Finding(check, State.WARNING, observation, remedy)


def wrong(check: str, observation: str, remedy: str) -> Finding:
    return Finding(check, State.WRONG, observation, remedy)
