"""The progress of a search: its feasible front, hypervolume and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.errors import EvaluationError
from nas.search.problem.constraints import NearestInfeasible, feasible_values, nearest, violations
from nas.search.problem.objectives import Constraint, Evaluation, Objective, Status, minimised
from nas.search.problem.pareto import hypervolume, non_dominated, reference_point

_MAX_FAILURES_IN_A_ROW = 20
"""After this number of failed candidates in a row, the fault is not the candidates'."""


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """The progress of a search or of its final measurements, for observers; everything that it counts is committed.

    Attributes:
        phase: ``searching`` or ``measuring the front again``.
        hypervolume: Hypervolume of the feasible evaluations; None before the smallest and the largest network are evaluated.
        front: number of non-dominated feasible ones.
        failures: networks of which a measurement failed for another reason than noise.
        nearest: The evaluation nearest to keeping all constraints, while none does.
        too_noisy: networks of which measurements failed for the noise of the machine, in runs of earlier versions.
        uncertain: latencies that will be measured again, because the machine was busy.
    """

    phase: str
    done: int
    total: int
    hypervolume: float | None = None
    front: int = 0
    failures: int = 0
    nearest: NearestInfeasible | None = None
    too_noisy: int = 0
    uncertain: int = 0


class FrontTracker:
    """The feasible front of a search, updated with each batch.

    Attributes:
        reference: the reference point of the hypervolume, in minimised values; None until `set_reference`.
        front: the minimised values of the feasible front, (f, m).
        hypervolume: Hypervolume of the front; None before the first batch.
        nearest: the evaluation nearest to keeping all constraints, while none does.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self._objectives, self._constraints = objectives, constraints
        self.reference: NDArray[np.float64] | None = None
        self.front = np.empty((0, len(objectives)))
        self.hypervolume: float | None = None
        self.nearest: NearestInfeasible | None = None
        self._any_feasible = False
        self.n_failures = self.n_too_noisy = 0
        self._failures_in_a_row: list[Evaluation] = []

    def set_reference(self, smallest: Evaluation, largest: Evaluation) -> tuple[float, ...]:
        """Sets the reference point from the two anchors; returns it in natural signs. `EvaluationError` if one failed."""
        for evaluation, which in ((smallest, "smallest"), (largest, "largest")):
            if evaluation.failed:
                raise EvaluationError(
                    f"the {which} network {evaluation.architecture.key} could not be evaluated: {_why(evaluation)}",
                    code="evaluation.anchor-failed",
                )
        ends = minimised([smallest, largest], self._objectives)
        self.reference = reference_point(ends[0], ends[1])
        return tuple(o.sign * float(r) for o, r in zip(self._objectives, self.reference, strict=True))

    def check_failures(self, evaluations: Sequence[Evaluation]) -> None:
        """Counts failures; `EvaluationError` when too many candidates failed in a row."""
        for evaluation in evaluations:
            if not evaluation.failed:
                self._failures_in_a_row.clear()
                continue
            if evaluation.too_noisy:
                self.n_too_noisy += 1
            else:
                self.n_failures += 1
            self._failures_in_a_row.append(evaluation)
            if len(self._failures_in_a_row) >= _MAX_FAILURES_IN_A_ROW:
                raise EvaluationError(
                    f"{_MAX_FAILURES_IN_A_ROW} candidates failed in a row, the first with: "
                    f"{_why(self._failures_in_a_row[0])}; a resume tries them again",
                    code="evaluation.failures-in-a-row",
                )

    def add(self, evaluations: Sequence[Evaluation]) -> float:
        """The hypervolume with further evaluations; those that failed or were screened out do not count."""
        if self.reference is None:
            raise ValueError("set the reference point before evaluations are added")
        complete = [e for e in evaluations if not (e.screened_out or e.failed)]
        self._update_nearest(complete)
        values = np.vstack([self.front, feasible_values(complete, self._objectives, self._constraints)])
        self.front = values[non_dominated(values)]
        self.hypervolume = hypervolume(self.front, self.reference)
        return self.hypervolume

    def progress(self, done: int, total: int, *, uncertain: int = 0) -> SearchProgress:
        """The progress of a search that has done `done` of `total` evaluations."""
        front = len(self.front)
        return SearchProgress(
            "searching",
            done,
            total,
            self.hypervolume,
            front,
            self.n_failures,
            self.nearest,
            self.n_too_noisy,
            uncertain,
        )

    def _update_nearest(self, evaluations: Sequence[Evaluation]) -> None:
        self._any_feasible |= bool((violations(evaluations, self._constraints) == 0).any())
        latest_nearest = nearest(evaluations, self._constraints)
        if self._any_feasible:
            self.nearest = None
        elif latest_nearest is not None and (self.nearest is None or latest_nearest.violation < self.nearest.violation):
            self.nearest = latest_nearest


def _why(evaluation: Evaluation) -> str:
    return next(m.message for m in evaluation.measurements.values() if m.status is Status.FAILED)
