"""The search loop: ask, evaluate, store, tell. Resuming runs the same loop over what the store holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from nas.engine.evaluation.base import Evaluator, slots_of
from nas.engine.evaluation.cached_evaluator import Attempts, CachedEvaluator
from nas.engine.evaluation.in_flight import InFlight
from nas.engine.evaluation.remeasuring import Remeasuring
from nas.engine.process_memory import frozen_collector
from nas.engine.search_progress import FrontTracker, SearchProgress
from nas.engine.stop_criteria import StopCallback, StopCriteria
from nas.engine.store.base import Fit, RunStore
from nas.search.base import SearchAlgorithm, as_asynchronous, asked, replayed
from nas.search.problem.budget import Budget, Stop, StopReason
from nas.search.problem.objectives import Constraint, Evaluation, Measurement, Objective, Request, metrics_of
from nas.search.problem.variants import Variants
from supernets.space import Architecture, SearchSpace

_N_REFERENCE = 4
"""Networks with values that set the reference point at least, unless the search ends with fewer."""
_SECONDS_BETWEEN_UPDATES = 1.0
"""Longest part of a search's time that a driver that is killed leaves uncounted, beside the evaluation that it waits for."""


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
    synchronous: bool = False,
    stop_when: StopCallback = lambda evaluations: "",
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Evaluation]:
    """Runs the search to the end of its budget and returns all evaluations in the order told.

    Where the evaluator has several slots and the algorithm can be asked while architectures are evaluated, it is asked for one
    more whenever a slot is free. The order of arrival is then an input of the search, which each ask is recorded with.

    What the store holds is replayed first: the algorithm gets the recorded asks with their stored measurements, and only
    missing ones are measured, so that a search that was killed continues as if it had not been. The time that earlier
    drivers took counts against the budget. Uncertain latencies are measured again beside those of later batches, and once
    more at the end; the algorithm and the front get the better values.

    Args:
        space: Space of candidates: `Variants.space` of the networks' space.
        constraints: A candidate that breaks one enters neither front nor hypervolume; their metrics are measured, too.
        known_candidates: Candidates that the evaluator answers without measuring, as those of a warm start: they are evaluated
            first, the algorithm learns from them, they may be on the front, and they are not part of the budget.
        synchronous: Ask for a batch and wait for all of it also where the evaluator has several slots.
        retry_failures: measure again what the store holds as failed; else the failure is replayed.
        stop_when: a further criterion to stop, checked before each ask after the first.

    Raises:
        EvaluationError: the first candidates (the smallest, the largest and the known ones) all failed, or too many in a row.
    """
    recorded = _RecordedAttempts(store)
    cached = CachedEvaluator(evaluator, recorded.attempts, keep=recorded.add, replay_failures=not retry_failures)
    first = list(dict.fromkeys([*[space.smallest, space.largest][: budget.evaluations], *known_candidates]))
    run = _Search(
        space=space,
        metrics=metrics_of(objectives, constraints),
        algorithm=algorithm,
        evaluator=Remeasuring(cached),
        variants=variants,
        store=store,
        budget=budget,
        batch=batch,
        first=first,
        first_open=set(first),
        known_candidates=known_candidates,
        retry_failures=retry_failures,
        criteria=StopCriteria(budget, stop_when),
        tracker=FrontTracker(objectives, constraints),
        on_progress=on_progress,
        clock=clock,
    )
    if not synchronous and slots_of(evaluator) and as_asynchronous(algorithm) is not None:
        run.in_flight = InFlight(run.evaluator, run._requests, variants.candidate)
    with frozen_collector():  # all workers wait for their next batch
        run.run()
    return run.evaluations


class _RecordedAttempts:
    """The attempts that a store holds, which is not read for requests without any."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._requests = {outcome.request for outcome in store.outcomes()}

    def attempts(self, requests: Sequence[Request]) -> Attempts:
        """As `RunStore.attempts`."""
        recorded = [request for request in requests if request in self._requests]
        return self._store.attempts(recorded) if recorded else {}

    def add(self, *measurements: Measurement) -> None:
        """As `RunStore.add`."""
        self._store.add(*measurements)
        self._requests.update(measurement.request for measurement in measurements)


@dataclass(kw_only=True)
class _Search:
    """A search: its parts, and its evaluations so far.

    Attributes:
        in_flight: Candidates that are evaluated one beside another; None where they are evaluated in batches.
        pending: Architectures that were asked for and not told yet, in the order asked.
        told: Architectures that the algorithm was told of since the last ask, in this order.
        first_open: Those of `first` that are pending.
        step: Number of asks.
    """

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
    in_flight: InFlight | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    pending: dict[Architecture, None] = field(default_factory=dict)
    told: list[Architecture] = field(default_factory=list)
    first_open: set[Architecture] = field(default_factory=set)
    step: int = 0
    recorded_reference: Sequence[float | None] | None = None

    @property
    def n_spent(self) -> int:
        """Evaluations of the budget."""
        return max(0, len(self.evaluations) - len(self.known_candidates))

    @property
    def n_asked(self) -> int:
        """Evaluations of the budget with those that are pending."""
        return max(0, len(self.evaluations) + len(self.pending) - len(self.known_candidates))

    def show(self, n_complete: int = 0) -> None:
        """Reports the progress, with some candidates of a batch that is not complete yet."""
        done = max(0, len(self.evaluations) + n_complete - len(self.known_candidates))
        self.on_progress(self.tracker.progress(done, self.budget.evaluations, uncertain=self.evaluator.n_uncertain))

    def run(self) -> None:
        state, started = self.store.state(), self.clock()
        stop, seconds, stored_seconds = None, state.searched_seconds, state.searched_seconds
        self.recorded_reference = None if self.retry_failures else state.reference
        self._replay()
        self._start(self._in_order_of_arrival(self.pending))
        while True:
            if stop is None and (n := self._n_to_ask()):
                stop = self._stop(state.stop, seconds)
                if stop is None and self._ask(n):
                    continue
                if stop is None and not self.pending:
                    stop = Stop(StopReason.SPACE_EXHAUSTED)
            if not self.pending:
                break
            if self.in_flight is None:
                self._tell(self._measure(list(self.pending)))
            else:
                self._tell([self.in_flight.next()])
            seconds = state.searched_seconds + self.clock() - started
            if seconds >= stored_seconds + _SECONDS_BETWEEN_UPDATES:
                self.store.update_state(searched_seconds=seconds)
                stored_seconds = seconds
        self.evaluator.last()
        self._correct()
        self._set_reference(1)
        self.store.update_state(stop=stop or Stop(StopReason.EVALUATIONS), searched_seconds=seconds)
        if self.algorithm.fits() and self.algorithm.ask(
            self.batch
        ):  # the last models' predictions of the next networks
            self._record_fits()

    def _n_to_ask(self) -> int:
        """The number of candidates to ask for now; 0 to wait for those that are evaluated."""
        n_left = self.budget.evaluations - self.n_asked
        if self.in_flight is None or not self.step:
            return 0 if self.pending else max(0, min(self.batch, n_left))
        return max(0, min(slots_of(self.evaluator) - len(self.pending), n_left))

    def _stop(self, recorded: Stop | None, seconds: float) -> Stop | None:
        """Why the search stops before an ask; None while it continues.

        Args:
            recorded: the stop of an earlier driver; a resume does not continue a search that ended, but a larger budget of
                evaluations does.
        """
        if recorded is not None and recorded.reason is not StopReason.EVALUATIONS:
            return recorded
        return self.criteria.check(self.evaluations, seconds) if self.step else None

    def _ask(self, n: int) -> bool:
        """Asks for up to `n` candidates and begins to measure them; returns False if there are none, or none for now."""
        architectures = list(self.first)
        if self.step:
            architectures = asked(self.algorithm, n, list(self.pending))
            self._record_fits()
        if not architectures:
            return False
        is_batch = self.in_flight is None or not self.step
        self.store.record_ask(self.step, architectures, None if is_batch else self.told)
        self._end_step(architectures)
        self._start(architectures)
        return True

    def _record_fits(self) -> None:
        for objective, fit in self.algorithm.fits().items():
            self.store.record_fit(Fit(self.step, objective, fit))

    def _end_step(self, architectures: Sequence[Architecture]) -> None:
        self.pending |= dict.fromkeys(architectures)
        self.told, self.step = [], self.step + 1

    def _start(self, architectures: Sequence[Architecture]) -> None:
        """Begins to measure candidates, unless they are measured together."""
        if self.in_flight is not None:
            for architecture in architectures:
                self.in_flight.start(architecture)

    def _replay(self) -> None:
        """Repeats the recorded asks, with what was told before each of them; the last ones are pending then."""
        for architectures, told in zip(self.store.asks(), self.store.told(), strict=True):
            if told is None:
                self._tell(self._measure(list(self.pending)))
            else:
                for evaluation in self._measure(told):
                    self._tell([evaluation])
            if self.n_asked >= self.budget.evaluations:
                return
            if self.step:
                again = replayed(self.algorithm, architectures, list(self.pending))
                if list(again) != architectures:
                    keys = {"recorded": [a.key for a in architectures], "now": [a.key for a in again]}
                    self.store.record_event("replay-differs", {"step": self.step, **keys})
            self._end_step(architectures)

    def _in_order_of_arrival(self, architectures: Iterable[Architecture]) -> list[Architecture]:
        """Architectures in the order in which an earlier driver measured them; those that it did not measure come last."""
        if not (remaining := list(architectures)) or self.in_flight is None:
            return remaining
        numbers = {outcome.request: number for number, outcome in enumerate(self.store.outcomes())}

        def arrived(architecture: Architecture) -> float:
            return max(numbers.get(request, math.inf) for request in self._requests(architecture).values())

        return sorted(remaining, key=arrived)

    def _tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Passes evaluations of pending candidates on."""
        if not evaluations:
            return
        new = {evaluation.architecture for evaluation in evaluations}
        if self.first_open & new:
            self.first_open -= new
            if not self.first_open:
                self.tracker.check_first([e for e in (*self.evaluations, *evaluations) if e.architecture in self.first])
        self.tracker.check_failures(evaluations)
        self.algorithm.tell(evaluations)
        self._correct()
        for evaluation in evaluations:
            del self.pending[evaluation.architecture]
        self.told += [evaluation.architecture for evaluation in evaluations]
        self.evaluations += evaluations
        self.tracker.add(evaluations)
        if len(self.evaluations) > len(self.first):
            self._set_reference(_N_REFERENCE if self.in_flight is None else len(self.first) + self.batch)
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

    def _requests(self, architecture: Architecture) -> dict[str, Request]:
        return {metric.name: self.variants.request(architecture, metric) for metric in self.metrics}

    def _measure(self, batch: Sequence[Architecture]) -> list[Evaluation]:
        """The candidates of a batch with all of their metrics."""
        if not batch:
            return []
        requests = {a: self._requests(a) for a in batch}
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
        corrected = []
        if not (improved := self.evaluator.improved()):
            return
        for i, evaluation in enumerate(self.evaluations):
            better = {name: improved[m.request] for name, m in evaluation.measurements.items() if m.request in improved}
            if better:
                self.evaluations[i] = replace(evaluation, measurements={**evaluation.measurements, **better})
                corrected.append(self.evaluations[i])
        if corrected:
            self.algorithm.correct(corrected)
            self.tracker.add(corrected)
