"""The search loop: ask, evaluate, store, tell. Resuming runs the same loop over what the store holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from nas.engine.evaluation.base import Evaluator
from nas.engine.evaluation.cached_evaluator import CachedEvaluator
from nas.engine.evaluation.remeasuring import Remeasuring
from nas.engine.process_memory import frozen_collector
from nas.engine.search_progress import FrontTracker, SearchProgress
from nas.engine.stop_criteria import StopCallback, StopCriteria
from nas.engine.store.base import Fit, RunStore
from nas.search.base import SearchAlgorithm
from nas.search.problem.budget import Budget, Stop, StopReason
from nas.search.problem.objectives import Constraint, Evaluation, Measurement, Objective, Request, metrics_of
from nas.search.problem.variants import Variants
from supernets.space import Architecture, SearchSpace

_N_REFERENCE = 4
"""Networks with values that set the reference point at least, unless the search ends with fewer."""


def search(
    space: SearchSpace,
    objectives: Sequence[Objective],
    algorithm: SearchAlgorithm,
    evaluator: Evaluator,
    store: RunStore,
    budget: Budget,
    *,
    batch: int,
    constraints: Sequence[Constraint] = (),
    variants: Variants = Variants(),  # noqa: B008 - a frozen value
    known_candidates: Sequence[Architecture] = (),
    retry_failures: bool = False,
    stop_when: StopCallback = lambda evaluations: "",
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Evaluation]:
    """Runs the search to the end of its budget and returns all evaluations in order.

    What the store holds is replayed first: the algorithm gets the recorded asks with their stored measurements, and only
    missing ones are measured, so that a search that was killed continues as if it had not been. The time that earlier
    drivers took counts against the budget. Uncertain latencies are measured again beside those of later batches, and once
    more at the end; the algorithm and the front get the better values.

    Args:
        space: Space of candidates: `Variants.space` of the networks' space.
        constraints: A candidate that breaks one enters neither front nor hypervolume; their metrics are measured, too.
        known_candidates: Candidates that the evaluator answers without measuring, as those of a warm start: they are evaluated
            first, the algorithm learns from them, they may be on the front, and they are not part of the budget.
        retry_failures: measure again what the store holds as failed; else the failure is replayed.
        stop_when: a further criterion to stop, checked before each ask after the first.

    Raises:
        EvaluationError: the first candidates (the smallest, the largest and the known ones) all failed, or too many in a row.
    """
    cached = CachedEvaluator(evaluator, store.attempts, keep=store.add, replay_failures=not retry_failures)
    run = _Search(
        space=space,
        metrics=metrics_of(objectives, constraints),
        algorithm=algorithm,
        evaluator=Remeasuring(cached),
        variants=variants,
        store=store,
        budget=budget,
        batch=batch,
        first=list(dict.fromkeys([*[space.smallest, space.largest][: budget.evaluations], *known_candidates])),
        known_candidates=known_candidates,
        retry_failures=retry_failures,
        criteria=StopCriteria(budget, stop_when),
        tracker=FrontTracker(objectives, constraints),
        on_progress=on_progress,
        clock=clock,
    )
    with frozen_collector():  # all workers wait for their next batch
        run.run()
    return run.evaluations


@dataclass(kw_only=True)
class _Search:
    """A search: its parts, and its evaluations so far."""

    space: SearchSpace
    metrics: Sequence[Objective]
    algorithm: SearchAlgorithm
    evaluator: Remeasuring
    variants: Variants
    store: RunStore
    budget: Budget
    batch: int
    first: Sequence[Architecture]
    known_candidates: Sequence[Architecture]
    criteria: StopCriteria
    tracker: FrontTracker
    on_progress: Callable[[SearchProgress], None]
    clock: Callable[[], float]
    retry_failures: bool
    evaluations: list[Evaluation] = field(default_factory=list)
    recorded_reference: Sequence[float | None] | None = None

    @property
    def n_spent(self) -> int:
        """Evaluations of the budget."""
        return max(0, len(self.evaluations) - len(self.known_candidates))

    def show(self, n_complete: int = 0) -> None:
        """Reports the progress, with some candidates of a batch that is not complete yet."""
        done = max(0, len(self.evaluations) + n_complete - len(self.known_candidates))
        self.on_progress(self.tracker.progress(done, self.budget.evaluations, uncertain=self.evaluator.n_uncertain))

    def run(self) -> None:
        recorded, state, started = self.store.asks(), self.store.state(), self.clock()
        step, seconds = 0, state.searched_seconds
        self.recorded_reference = None if self.retry_failures else state.reference
        while (stop := self._stop(step, len(recorded), state.stop, seconds)) is None:
            architectures = self._replay(step, recorded[step]) if step < len(recorded) else self._ask(step)
            if not architectures:
                stop = Stop(StopReason.SPACE_EXHAUSTED)
                break
            self._evaluate(architectures)
            step += 1
            if step >= len(recorded):
                seconds = state.searched_seconds + self.clock() - started
                self.store.update_state(searched_seconds=seconds)
        self.evaluator.last()
        self._correct()
        self._set_reference(1)
        self.store.update_state(stop=stop)
        if self.algorithm.fits() and self.algorithm.ask(
            self.batch
        ):  # the last models' predictions of the next networks
            self._record_fits(step)

    def _stop(self, step: int, n_recorded: int, recorded: Stop | None, seconds: float) -> Stop | None:
        """Why the search stops before a step; None while it continues.

        Args:
            recorded: the stop of an earlier driver; a resume does not continue a search that ended, but a larger budget of
                evaluations does.
        """
        if self.n_spent >= self.budget.evaluations:
            return Stop(StopReason.EVALUATIONS)
        if step < n_recorded:
            return None
        if recorded is not None and recorded.reason is not StopReason.EVALUATIONS:
            return recorded
        return self.criteria.check(self.evaluations, seconds) if step else None

    def _ask(self, step: int) -> list[Architecture]:
        if step == 0:
            architectures = list(self.first)
        else:
            architectures = self.algorithm.ask(min(self.batch, self.budget.evaluations - self.n_spent))
            self._record_fits(step)
        if architectures:
            self.store.record_ask(step, architectures)
        return architectures

    def _record_fits(self, step: int) -> None:
        for objective, fit in self.algorithm.fits().items():
            self.store.record_fit(Fit(step, objective, fit))

    def _replay(self, step: int, recorded: list[Architecture]) -> list[Architecture]:
        if step == 0:
            return recorded
        again = self.algorithm.replay(recorded)
        if list(again) != recorded:
            self.store.record_event(
                "replay-differs", {"step": step, "recorded": [a.key for a in recorded], "now": [a.key for a in again]}
            )
        return recorded

    def _evaluate(self, architectures: list[Architecture]) -> None:
        evaluations = self._measure(architectures)
        is_first = not self.evaluations
        if is_first:
            self.tracker.check_first(evaluations)
        self.tracker.check_failures(evaluations)
        self.algorithm.tell(evaluations)
        self._correct()
        self.evaluations += evaluations
        self.tracker.add(evaluations)
        if not is_first:
            self._set_reference(_N_REFERENCE)
        if self.tracker.hypervolume is not None:
            self.criteria.record(self.n_spent, self.tracker.hypervolume)
        self.show()

    def _set_reference(self, n_at_least: int) -> None:
        """Sets the reference point by the evaluations so far, if that many have values, unless it is set."""
        if self.tracker.reference is None:
            recorded = self.recorded_reference
            reference = self.tracker.set_reference(self.evaluations, n_at_least=n_at_least, recorded=recorded)
            if reference is not None:
                self.store.update_state(reference=reference)

    def _measure(self, batch: Sequence[Architecture]) -> list[Evaluation]:
        """The candidates of a batch with all of their metrics."""
        requests = {a: {metric.name: self.variants.request(a, metric) for metric in self.metrics} for a in batch}
        missing = {a: len(self.metrics) for a in batch}
        measurements: dict[Request, Measurement] = {}
        for measurement in self.evaluator.evaluate([r for by_metric in requests.values() for r in by_metric.values()]):
            measurements[measurement.request] = measurement
            missing[self.variants.candidate(measurement.request)] -= 1
            complete = sum(n == 0 for n in missing.values())
            if complete < len(batch):  # a complete batch is shown with the front and the hypervolume that it makes
                self.show(complete)
        return [
            Evaluation(a, {name: measurements[r] for name, r in by_metric.items()}) for a, by_metric in requests.items()
        ]

    def _correct(self) -> None:
        """Passes on the values of latencies that were measured again."""
        improved = self.evaluator.improved()
        corrected = []
        for i, evaluation in enumerate(self.evaluations):
            better = {name: improved[m.request] for name, m in evaluation.measurements.items() if m.request in improved}
            if better:
                self.evaluations[i] = replace(evaluation, measurements={**evaluation.measurements, **better})
                corrected.append(self.evaluations[i])
        if corrected:
            self.algorithm.correct(corrected)
            self.tracker.add(corrected)
