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
        hypervolume: Hypervolume of the feasible evaluations; None before the reference point is set.
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
        hypervolume: Hypervolume of the front; None until `set_reference`.
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

    def set_reference(
        self,
        evaluations: Sequence[Evaluation],
        *,
        n_at_least: int,
        recorded: Sequence[float | None] | None = None,
    ) -> tuple[float, ...] | None:
        """Sets the reference point from the first networks; returns it in natural signs.

        Args:
            evaluations: The evaluations so far; those that failed or were screened out do not count.
            n_at_least: The number of evaluations that must count: one or two alone would give a point that others lie beyond.
            recorded: The point that an earlier driver of the run has set, in natural signs, which stays; None for none.

        Returns:
            None while too few evaluations count; then no reference is set.
        """
        complete = _complete(evaluations)
        if len(complete) < n_at_least:
            return None
        if recorded is not None and None not in recorded:
            signs = np.array([o.sign for o in self._objectives])
            self.reference = signs * np.array(recorded, dtype=np.float64)
        else:
            self.reference = reference_point(minimised(complete, self._objectives))
        self.hypervolume = hypervolume(self.front, self.reference)
        return tuple(o.sign * float(r) for o, r in zip(self._objectives, self.reference, strict=True))

    def check_first(self, evaluations: Sequence[Evaluation]) -> None:
        """Raises `EvaluationError` if all of the first networks failed: then the fault is not theirs."""
        if evaluations and all(evaluation.failed for evaluation in evaluations):
            keys = " and ".join(evaluation.architecture.key for evaluation in evaluations[:2])
            raise EvaluationError(
                f"the first networks ({keys}) could not be evaluated: {_why(evaluations[0])}",
                code="evaluation.anchor-failed",
            )

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

    def add(self, evaluations: Sequence[Evaluation]) -> None:
        """Adds evaluations to the front; those that failed or were screened out do not count."""
        complete = _complete(evaluations)
        self._update_nearest(complete)
        values = np.vstack([self.front, feasible_values(complete, self._objectives, self._constraints)])
        self.front = values[non_dominated(values)]
        if self.reference is not None:
            self.hypervolume = hypervolume(self.front, self.reference)

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


def _complete(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    return [evaluation for evaluation in evaluations if not (evaluation.screened_out or evaluation.failed)]


def _why(evaluation: Evaluation) -> str:
    return next(m.message for m in evaluation.measurements.values() if m.status is Status.FAILED)
