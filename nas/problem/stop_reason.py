"""Why a search stopped: an enumeration that is stored, and its sentence for display."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from nas.problem.budget import Plateau


class StopReason(StrEnum):
    """The criterion that ended a search."""

    EVALUATIONS = "evaluations"
    MINUTES = "minutes"
    PLATEAU = "plateau"
    SPACE_EXHAUSTED = "space-exhausted"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a search; ``str`` gives the sentence for display.

    Attributes:
        minutes: the time limit that was reached (`StopReason.MINUTES`).
        plateau: the plateau that was reached (`StopReason.PLATEAU`).
        message: the callback's own words (`StopReason.CALLBACK`).
    """

    reason: StopReason
    minutes: float | None = None
    plateau: Plateau | None = None
    message: str = ""

    def __str__(self) -> str:
        match self.reason:
            case StopReason.MINUTES:
                return f"the budget of {self.minutes:g} minutes is used up"
            case StopReason.PLATEAU if self.plateau is not None:
                share, n = self.plateau.gain, self.plateau.evaluations
                return f"the hypervolume grew by at most {share:.2g} of it over {n} evaluations"
            case StopReason.SPACE_EXHAUSTED:
                return "every architecture of the space was evaluated"
            case StopReason.CALLBACK:
                return self.message
        return "the budget of evaluations is used up"

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> Self:
        """The stop that `to_json` wrote, or that an earlier version stored as its sentence."""
        if isinstance(data, str):
            return cls._of_sentence(data)
        plateau = data["plateau"]
        return cls(
            StopReason(data["reason"]),
            data["minutes"],
            None if plateau is None else Plateau(**plateau),
            data["message"],
        )

    @classmethod
    def _of_sentence(cls, text: str) -> Self:
        for reason in (StopReason.EVALUATIONS, StopReason.SPACE_EXHAUSTED):
            if text == str(cls(reason)):
                return cls(reason)
        if found := re.fullmatch(r"the budget of (\S+) minutes is used up", text):
            return cls(StopReason.MINUTES, minutes=float(found[1]))
        if found := re.fullmatch(r"the hypervolume grew by at most (\S+) of it over (\d+) evaluations", text):
            return cls(StopReason.PLATEAU, plateau=Plateau(int(found[2]), float(found[1])))
        return cls(StopReason.CALLBACK, message=text)
