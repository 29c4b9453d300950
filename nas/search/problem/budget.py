"""The budget of a search, its extension, and why the search stopped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Self

from nas.errors import REPEAT, NasError, Remedy

MAX_FINALISTS = 40
"""Architectures measured again after a search, at most; a front that is larger is measured whole."""


@dataclass(frozen=True, slots=True)
class Plateau:
    """Early stopping: the last `evaluations` raised the hypervolume by at most the share `gain` of it.

    Attributes:
        evaluations: Number of last evaluations in which the hypervolume has grown too little.
        gain: Largest growth over these evaluations that ends the search, as a share (0.01 for 1 %) of the present hypervolume.
    """

    evaluations: int
    gain: float


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a search, which ends at the first one reached.

    Attributes:
        evaluations: Number of evaluations, the smallest and the largest included.
        minutes: Minutes of searching, over all of the run's drivers; None for no limit.
        plateau: Rule of early stopping; None for none.
        plateau_from: Number of evaluations that the plateau ignores: those before the run was extended.
    """

    evaluations: int
    minutes: float | None = None
    plateau: Plateau | None = None
    plateau_from: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Budget:
        """The budget that `to_json` wrote, of this version or an earlier one.

        Args:
            data: Mapping with ``evaluations`` and, where they are set, ``minutes``, ``plateau`` and ``plateau_from``; None
                counts as not set.
        """
        plateau = Plateau(**data["plateau"]) if data.get("plateau") else None
        ignored = int(data.get("plateau_from") or 0)
        return cls(int(data["evaluations"]), data.get("minutes"), plateau, plateau_from=ignored)


@dataclass(frozen=True, slots=True)
class Spent:
    """The part of its budget that a search has used.

    Attributes:
        evaluations: Number of architectures asked for.
        seconds: Seconds of searching.
        ended: True if the search ended; otherwise it was interrupted.
    """

    evaluations: int
    seconds: float
    ended: bool


def extend_budget(
    budget: Budget, spent: Spent, *, evaluations: str | int | None = None, minutes: str | float | None = None
) -> Budget:
    """The budget of a run that continues.

    Args:
        evaluations: a new total (``150``), or an addition (``+50``) to what the run has used; if it was interrupted, to its
            budget.
        minutes: likewise.

    Raises:
        NasError: not a number (code ``budget.invalid``), less than was used, or nothing left for the run to continue
            with (code ``budget.used-up``).
    """
    done, used = spent.evaluations, spent.seconds / 60
    if evaluations is not None:
        total = _total("evaluations", evaluations, done if spent.ended else budget.evaluations, is_whole=True)
        if total < done:
            raise _too_small("evaluations", evaluations, str(done))
        budget = replace(budget, evaluations=int(total), plateau_from=done)
    if minutes is not None:
        before = used if spent.ended or budget.minutes is None else budget.minutes
        total = _total("minutes", minutes, before, is_whole=False)
        if total < used:
            raise _too_small("minutes", minutes, f"{used:.3g}")
        budget = replace(budget, minutes=total, plateau_from=done)
    if spent.ended and done >= budget.evaluations:
        remedy = Remedy(REPEAT, options={"evaluations": "+50"})
        raise NasError(f"its {done} evaluations are used up; add some", code="budget.used-up", remedy=remedy)
    if spent.ended and budget.minutes is not None and used >= budget.minutes:
        remedy = Remedy(REPEAT, options={"minutes": "+10"})
        raise NasError(f"its {budget.minutes:g} minutes are used up; add some", code="budget.used-up", remedy=remedy)
    return budget


def check_extension(*, evaluations: str | int | None = None, minutes: str | float | None = None) -> None:
    """Raises `NasError` (code ``budget.invalid``) for what no run can be extended by, before any run is opened.

    Args:
        evaluations: A new total (``150``) or an addition (``"+50"``), a whole number above 0 and at most a million; None for no
            change.
        minutes: A new total (``30``) or an addition (``"+10"``) in minutes, above 0 and at most a million; None for no change.
    """
    if evaluations is not None:
        _total("evaluations", evaluations, 0, is_whole=True)
    if minutes is not None:
        _total("minutes", minutes, 0, is_whole=False)


def _total(name: str, amount: str | float, before: float, *, is_whole: bool) -> float:
    """The total that a value requests: its number, or, with a plus, that much more than before."""
    text = str(amount).strip()
    try:
        number = int(text) if is_whole else float(text)
    except ValueError:
        number = 0
    if not 0 < number <= 1e6:
        expected = "a whole number" if is_whole else "a number"
        message = f"{name} {amount}: expected {expected} above 0, or an addition with a plus, e.g. +50"
        raise NasError(message, code="budget.invalid", parameter=name)
    return before + number if text.startswith("+") else number


def _too_small(name: str, amount: str | float, used: str) -> NasError:
    message = f"{name} {amount}: the run has used {used} already; give a larger number, or an addition, e.g. +50"
    return NasError(message, code="budget.invalid", parameter=name)


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
        plateau = None if data["plateau"] is None else Plateau(**data["plateau"])
        return cls(StopReason(data["reason"]), data["minutes"], plateau, data["message"])

    @classmethod
    def _of_sentence(cls, text: str) -> Self:
        for reason in (StopReason.EVALUATIONS, StopReason.SPACE_EXHAUSTED):
            if text == str(cls(reason)):
                return cls(reason)
        if match := re.fullmatch(r"the budget of (\S+) minutes is used up", text):
            return cls(StopReason.MINUTES, minutes=float(match[1]))
        if match := re.fullmatch(r"the hypervolume grew by at most (\S+) of it over (\d+) evaluations", text):
            return cls(StopReason.PLATEAU, plateau=Plateau(int(match[2]), float(match[1])))
        return cls(StopReason.CALLBACK, message=text)
