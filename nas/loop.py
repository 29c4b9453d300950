"""The search loop: ask, evaluate, store, tell; then the finalists are measured again. Resuming runs the same loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.errors import EvaluationError
from nas.evaluation.base import Evaluator
from nas.evaluation.cached import Cached
from nas.objectives import Evaluation, Fidelity, Measurement, Objective, Request, Status, minimised
from nas.pareto import hypervolume, non_dominated, reference_point
from nas.search.base import SearchAlgorithm
from nas.store.base import Fit, RunStore
from supernets.space import Architecture, SearchSpace

_MAX_FAILURES_IN_A_ROW = 20
"""After so many failed candidates one after another, the fault is not the candidates'."""
_MAX_FINALISTS = 40
_EVALUATIONS_USED = "the budget of evaluations is used up"


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends: at so many evaluations (the smallest and the largest included), or after so many minutes."""

    evaluations: int
    minutes: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What the display shows; everything that it counts is committed.

    Attributes:
        phase: ``searching`` or ``measuring the front again``.
        hypervolume: of the evaluations told so far; None before the smallest and the largest are.
    """

    phase: str
    done: int
    total: int
    hypervolume: float | None = None
    front: int = 0
    failures: int = 0


def search(
    space: SearchSpace,
    objectives: Sequence[Objective],
    algorithm: SearchAlgorithm,
    evaluator: Evaluator,
    store: RunStore,
    budget: Budget,
    *,
    batch: int,
    retry_failures: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Evaluation]:
    """Runs the search to the end of its budget and returns all evaluations in the order told.

    What the store holds is replayed first: recorded asks are told with their stored measurements (only missing ones are
    measured), so that a search that was killed goes on as if it had not been. The time budget counts from here.

    Args:
        retry_failures: measure again what the store holds as failed; else the failure is replayed like a figure.

    Raises:
        EvaluationError: the smallest or the largest network failed, or too many candidates did in a row.
    """
    cached = Cached(evaluator, store.find, keep=store.add, replay_failures=not retry_failures)
    return _Search(space, objectives, algorithm, cached, store, budget, batch, on_progress, clock).run()


class _Search:
    """The state of one search: what was told, and how far the display is."""

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        algorithm: SearchAlgorithm,
        evaluator: Evaluator,
        store: RunStore,
        budget: Budget,
        batch: int,
        on_progress: Callable[[Progress], None],
        clock: Callable[[], float],
    ) -> None:
        self._space, self._objectives, self._algorithm = space, list(objectives), algorithm
        self._store, self._budget, self._batch = store, budget, batch
        self._on_progress, self._clock = on_progress, clock
        self._evaluator = evaluator
        self._told: list[Evaluation] = []
        self._values = np.empty((0, len(objectives)))
        self._reference: NDArray[np.float64] | None = None
        self._failures_in_a_row = 0

    def run(self) -> list[Evaluation]:
        recorded = self._store.asks()
        deadline = None if self._budget.minutes is None else self._clock() + 60 * self._budget.minutes
        stopped = self._store.info().get("stopped")
        step, reason = 0, _EVALUATIONS_USED
        while len(self._told) < self._budget.evaluations:
            if step < len(recorded):
                asked = self._replay(step, recorded[step])
            elif stopped not in (None, _EVALUATIONS_USED):  # it ended, and is not taken up again by a resume
                reason = str(stopped)
                break
            elif deadline is not None and self._clock() >= deadline and step > 0:
                reason = f"the budget of {self._budget.minutes:g} minutes is used up"
                break
            else:
                asked = self._ask(step)
            if not asked:
                reason = "every architecture of the space was evaluated"
                break
            self._evaluate(asked)
            step += 1
        self._store.set_info("stopped", reason)
        self._record_outlook(step)
        return self._told

    def _record_outlook(self, step: int) -> None:
        """Keeps what the last models expect of the networks that would be measured next: shown, as predicted."""
        if self._algorithm.fits() and self._algorithm.ask(self._batch):
            self._record_fits(step)

    def _record_fits(self, step: int) -> None:
        for objective, fit in self._algorithm.fits().items():
            self._store.record_fit(Fit(step, objective, fit))

    def _ask(self, step: int) -> list[Architecture]:
        if step == 0:
            asked = list(dict.fromkeys([self._space.smallest, self._space.largest]))
        else:
            asked = self._algorithm.ask(min(self._batch, self._budget.evaluations - len(self._told)))
            self._record_fits(step)
        if asked:
            self._store.record_ask(step, asked)
        return asked

    def _replay(self, step: int, recorded: list[Architecture]) -> list[Architecture]:
        if step == 0:
            return recorded
        again = self._algorithm.replay(recorded)
        if list(again) != recorded:
            self._store.record_event(
                "replay-differs", {"step": step, "recorded": [a.key for a in recorded], "now": [a.key for a in again]}
            )
        return recorded

    def _evaluate(self, asked: list[Architecture]) -> None:
        found: dict[Request, Measurement] = {}
        missing = {a: len(self._objectives) for a in asked}
        for measurement in self._evaluator.evaluate([Request.of(a, o) for a in asked for o in self._objectives]):
            found[measurement.request] = measurement  # the cache has committed it
            missing[measurement.request.architecture] -= 1
            self._show(sum(n == 0 for n in missing.values()))
        evaluations = [Evaluation(a, {o.name: found[Request.of(a, o)] for o in self._objectives}) for a in asked]
        self._check_failures(evaluations)
        self._algorithm.tell(evaluations)
        self._told += evaluations
        self._values = np.vstack([self._values, minimised(evaluations, self._objectives)])
        if self._reference is None:
            self._set_reference(evaluations)
        self._show(0)

    def _set_reference(self, anchors: list[Evaluation]) -> None:
        """The hypervolume's reference point, once for the run, from the smallest and the largest network."""
        for evaluation in anchors:
            if evaluation.failed:
                which = "smallest" if evaluation.architecture == self._space.smallest else "largest"
                raise EvaluationError(f"the {which} network could not be evaluated: {_why(evaluation)}")
        self._reference = reference_point(self._values[0], self._values[-1])
        natural = [o.sign * float(r) for o, r in zip(self._objectives, self._reference, strict=True)]
        self._store.set_info("reference", natural)

    def _check_failures(self, evaluations: list[Evaluation]) -> None:
        for evaluation in evaluations:
            self._failures_in_a_row = self._failures_in_a_row + 1 if evaluation.failed else 0
            if self._failures_in_a_row >= _MAX_FAILURES_IN_A_ROW:
                raise EvaluationError(
                    f"{self._failures_in_a_row} candidates failed one after another, the last with: {_why(evaluation)}"
                )

    def _show(self, in_flight: int) -> None:
        volume = None if self._reference is None else hypervolume(self._values, self._reference)
        self._on_progress(
            Progress(
                "searching",
                len(self._told) + in_flight,
                self._budget.evaluations,
                volume,
                int(non_dominated(self._values).sum()),
                sum(e.failed for e in self._told),
            )
        )


def _why(evaluation: Evaluation) -> str:
    return next(m.message for m in evaluation.measurements.values() if m.status is Status.FAILED)


def finalists(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], anchors: Sequence[Architecture]
) -> list[Architecture]:
    """The architectures to measure again: the front, those that it leads by no more than timing noise, and the anchors.

    Only latency can come out otherwise when it is measured again: a network that would be on the front if it were faster
    by its noise floor may belong there, and the longer protocol decides.
    """
    usable = [e for e in evaluations if not e.failed]
    values = minimised(usable, objectives)
    errors = np.array(
        [[(e.measurements[o.name].error or 0.0) * (o.profile is not None) for o in objectives] for e in usable]
    )
    front = non_dominated(values)
    chosen = {usable[i].architecture: None for i in np.flatnonzero(front)}
    optimistic = values - errors
    for i in np.flatnonzero(~front):
        if len(chosen) >= max(_MAX_FINALISTS, int(front.sum())):
            break
        ahead = values[front]
        beaten = np.all(ahead <= optimistic[i], axis=1) & np.any(ahead < optimistic[i], axis=1)
        if not beaten.any():
            chosen.setdefault(usable[i].architecture, None)
    return list(dict.fromkeys([*chosen, *anchors]))


def measure_again(
    architectures: Sequence[Architecture],
    objectives: Sequence[Objective],
    evaluator: Evaluator,
    store: RunStore,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Times the finalists by the longer protocol and scores them on the test part; figures in the store are not redone."""
    store.set_info("final", [a.key for a in architectures])
    requests = [Request(a, "accuracy", None, Fidelity.TEST) for a in architectures]
    requests += [Request.of(a, o, Fidelity.FINAL) for o in objectives if o.profile is not None for a in architectures]
    missing = {a: sum(r.architecture == a for r in requests) for a in architectures}
    for measurement in Cached(evaluator, store.find, keep=store.add).evaluate(requests):
        missing[measurement.request.architecture] -= 1
        done = sum(n == 0 for n in missing.values())
        on_progress(Progress("measuring the front again", done, len(missing)))
