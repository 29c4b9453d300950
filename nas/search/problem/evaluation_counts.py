"""What the evaluations of a search gave, and how many gave it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from nas.search.problem.objectives import TOO_NOISY, Status


class Result(StrEnum):
    """Outcomes of a measurement, or of an evaluation of several; from the best to the worst."""

    MEASURED = "measured"
    NOISY = "noisy"
    """Measured, with the wider error of a noisy machine."""
    SCREENED_OUT = "screened-out"
    """Without all of its measurements, which were skipped, as by earlier versions."""
    TOO_NOISY = "too-noisy"
    """Without a value: the noise of the machine exceeded what is accepted."""
    FAILED = "failed"
    """Without a value for any other reason."""

    @classmethod
    def of(cls, status: Status, detail: Mapping[str, Any] | None) -> Result:
        """The result of one measurement."""
        if status is Status.FAILED:
            return cls.TOO_NOISY if (detail or {}).get(TOO_NOISY) else cls.FAILED
        return _BY_STATUS[status]


_BY_STATUS = {Status.OK: Result.MEASURED, Status.NOISY: Result.NOISY, Status.SKIPPED: Result.SCREENED_OUT}
_RANK = {result: rank for rank, result in enumerate(Result)}


def worst(results: Iterable[Result]) -> Result:
    """The result of an evaluation with these measurements; MEASURED for none."""
    return max(results, key=_RANK.__getitem__, default=Result.MEASURED)


@dataclass(frozen=True, slots=True)
class EvaluationCounts:
    """Numbers of evaluated networks by `Result`; each network counts once, under its worst one.

    Attributes:
        measured: Number of networks with all measurements, none of which is noisy.
        noisy: Number of networks with all measurements, at least one of which has the wider error of a noisy machine.
        screened_out: Number of networks without some measurements that were skipped; above 0 in runs of earlier versions alone.
        too_noisy: Number of networks without a value because the noise of the machine exceeded what is accepted.
        failed: Number of networks without a value for any other reason.
    """

    measured: int = 0
    noisy: int = 0
    screened_out: int = 0
    too_noisy: int = 0
    failed: int = 0

    @classmethod
    def of(cls, results: Iterable[Result]) -> Self:
        """The counts of these results, one for each network.

        Args:
            results: Worst result of each network, in any order.
        """
        n_by_result = Counter(results)
        return cls(*(n_by_result[result] for result in Result))

    @property
    def total(self) -> int:
        """All evaluated networks."""
        return self.measured + self.noisy + self.screened_out + self.too_noisy + self.failed

    def __str__(self) -> str:
        """``24 measured (3 of them noisy), 16 too noisy, 1 failed``."""
        noisy = f" ({self.noisy} of them noisy)" if self.noisy else ""
        other_counts = (
            (self.screened_out, "skipped early"),
            (self.too_noisy, "too noisy"),
            (self.failed, "failed"),
        )
        parts = [f"{self.measured + self.noisy} measured{noisy}", *(f"{n} {word}" for n, word in other_counts if n)]
        return ", ".join(parts)


def evaluations_text(n_evaluations: int, counts: EvaluationCounts, *, n_known: int = 0) -> str:
    """The evaluations of a run with what they gave, where not all were measured.

    Args:
        n_evaluations: Number of evaluations of the budget.
        counts: Numbers of networks by outcome.
        n_known: Number of networks that a warm start knew, which the counts include.
    """
    text = f"{n_evaluations} evaluation{'' if n_evaluations == 1 else 's'}"
    text += f" and {n_known} known network{'' if n_known == 1 else 's'}" if n_known else ""
    return text if counts.measured == counts.total else f"{text}: {counts}"
