"""When a search ends, and how the budget of a run is extended afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nas.errors import NasError

MAX_FINALISTS = 40
"""Architectures measured again after a search, at most; a front that is larger is measured whole."""


@dataclass(frozen=True, slots=True)
class Plateau:
    """A search has reached it when so many evaluations raised the hypervolume by no more than a share of it."""

    evaluations: int
    gain: float


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends: whichever of these comes first.

    Attributes:
        evaluations: the smallest and the largest included.
        minutes: of searching, over all of the run's drivers; None for no limit.
        plateau: None for going on however little is gained.
        plateau_from: number of evaluations before which no plateau is looked for: where the run was extended.
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
        """The budget that `to_json` wrote, of this version or an earlier one."""
        plateau = data.get("plateau")
        return cls(
            int(data["evaluations"]),
            data.get("minutes"),
            None if plateau is None else Plateau(**plateau),
            int(data.get("plateau_from") or 0),
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What a search has used of its budget.

    Attributes:
        evaluations: networks asked for.
        seconds: of searching.
        ended: whether the search came to its end, whatever ended it; else it was interrupted.
    """

    evaluations: int
    seconds: float
    ended: bool


def extend_budget(
    budget: Budget, spent: Spent, *, evaluations: str | int | None = None, minutes: str | float | None = None
) -> Budget:
    """The budget of a run that is to go on.

    Args:
        evaluations: a new total (``150``), or how many more (``+50``) than the run has done; where it was interrupted, than
            it would have done.
        minutes: likewise.

    Raises:
        NasError: no such number, less than was used already, or the run could not go on even so.
    """
    done, used = spent.evaluations, spent.seconds / 60
    if evaluations is not None:
        total = _total("--evaluations", evaluations, done if spent.ended else budget.evaluations, whole=True)
        if total < done:
            raise NasError(f"--evaluations {evaluations}: the run has {done} already; give a number above it, or +N")
        budget = replace(budget, evaluations=int(total), plateau_from=done)
    if minutes is not None:
        before = used if spent.ended or budget.minutes is None else budget.minutes
        total = _total("--minutes", minutes, before, whole=False)
        if total < used:
            raise NasError(f"--minutes {minutes}: the run has used {used:.3g} already; give a number above it, or +N")
        budget = replace(budget, minutes=total, plateau_from=done)
    if spent.ended and done >= budget.evaluations:
        raise NasError(f"its {done} evaluations are used up; add some with --evaluations +50")
    if spent.ended and budget.minutes is not None and used >= budget.minutes:
        raise NasError(f"its {budget.minutes:g} minutes are used up; add some with --minutes +10")
    return budget


def _total(option: str, given: str | float, before: float, *, whole: bool) -> float:
    """The new total that an option asks for: its number, or, with a plus, so much more than before."""
    text = str(given).strip()
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = 0
    if not 0 < number <= 1e6:
        what = "a whole number" if whole else "a number"
        raise NasError(f"{option} {given}: expected {what} above 0, or how much more with a plus, e.g. {option} +50")
    return before + number if text.startswith("+") else number
