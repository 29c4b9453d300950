"""The search loop: ask, evaluate, store, tell; then the finalists are measured again. Resuming runs the same loop."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas.engine.screening import Stages, partial, screened_first, was_left, worth
from nas.errors import EvaluationError
from nas.evaluation.base import Evaluator
from nas.evaluation.cached import Cached
from nas.problem.budget import MAX_FINALISTS, Budget
from nas.problem.constraints import NearestInfeasible, feasible_values, feasible_within_noise, nearest, violations
from nas.problem.objectives import (
    Constraint,
    Evaluation,
    Fidelity,
    Measurement,
    Objective,
    Request,
    Status,
    metrics_of,
    minimised,
)
from nas.problem.pareto import hypervolume, non_dominated, reference_point
from nas.problem.precision import Precisions
from nas.problem.stop_reason import Stop, StopReason
from nas.search.base import SearchAlgorithm
from nas.store.base import Fit, RunStore
from supernets.space import Architecture, SearchSpace

_MAX_FAILURES_IN_A_ROW = 20
"""After so many failed candidates one after another, the fault is not the candidates'."""
_MAX_NEAREST = 8
"""Networks measured again where none keeps the constraints."""
_FLOORS = (0, 1, 2)
"""By how many noise floors the finalists' fronts keep the limits."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the display shows; everything that it counts is committed.

    Attributes:
        phase: ``searching`` or ``measuring the front again``.
        hypervolume: of the feasible evaluations told so far; None before the smallest and the largest are.
        front: number of non-dominated feasible ones.
        nearest: the one nearest to keeping all constraints, while none does.
    """

    phase: str
    done: int
    total: int
    hypervolume: float | None = None
    front: int = 0
    failures: int = 0
    nearest: NearestInfeasible | None = None


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
    precisions: Precisions = Precisions(),  # noqa: B008 - a frozen value
    retry_failures: bool = False,
    enough: Callable[[Sequence[Evaluation]], str] = lambda told: "",
    screen_images: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Evaluation]:
    """Runs the search to the end of its budget and returns all evaluations in the order told.

    What the store holds is replayed first: recorded asks are told with their stored measurements (only missing ones are
    measured), so that a search that was killed goes on as if it had not been. What it took counts on in the store, too.

    Args:
        space: of candidates: `Precisions.space` of the networks'.
        constraints: what breaks one enters neither front nor hypervolume; figures that they alone are on are measured too.
        retry_failures: measure again what the store holds as failed; else the failure is replayed like a figure.
        screen_images: take accuracies on so many images first, and the rest of a candidate's figures only where it may
            still enter the front; the evaluator knows the same number. None takes all figures of every candidate.
        enough: called with all evaluations told before each ask after the first; the reason to end here, or "".

    Raises:
        EvaluationError: the smallest or the largest network failed, or too many candidates did in a row.
    """
    cached = Cached(evaluator, store.find, keep=store.add, replay_failures=not retry_failures)
    under_way = _Search(
        space, list(objectives), algorithm, cached, store, budget, batch, precisions, enough, on_progress, clock,
        list(constraints), screen_images,
    )  # fmt: skip
    with _passing_over_what_is_loaded():
        return under_way.run()


@contextmanager
def _passing_over_what_is_loaded() -> Iterator[None]:
    """The garbage collector leaves alone what was there before: to look through modules, data and weights takes a tenth of a
    second and more each time, while all workers wait for their next batch."""
    if gc.get_freeze_count():  # whoever did that already keeps it so
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass
class _Search:
    """A search under way: its parts, what was told, and the reference point once it is set."""

    space: SearchSpace
    objectives: list[Objective]
    algorithm: SearchAlgorithm
    evaluator: Evaluator
    store: RunStore
    budget: Budget
    batch: int
    precisions: Precisions
    enough: Callable[[Sequence[Evaluation]], str]
    on_progress: Callable[[Progress], None]
    clock: Callable[[], float]
    constraints: list[Constraint]
    screen_images: int | None = None
    told: list[Evaluation] = field(default_factory=list)
    reference: NDArray[np.float64] | None = None
    volume: float | None = None
    failures: int = 0
    any_feasible: bool = False
    miss: NearestInfeasible | None = None
    failures_in_a_row: list[Evaluation] = field(default_factory=list)
    volumes: list[tuple[int, float]] = field(default_factory=list)  # after so many evaluations, by batch

    def __post_init__(self) -> None:
        self.figures = metrics_of(self.objectives, self.constraints)
        # Feasible rows that nothing told dominates: all that the volume needs.
        self.front = np.empty((0, len(self.objectives)))

    def run(self) -> list[Evaluation]:
        recorded, state = self.store.asks(), self.store.state()
        before, started = state.searched_seconds, self.clock()
        step, stop = 0, Stop(StopReason.EVALUATIONS)
        while len(self.told) < self.budget.evaluations:
            if step < len(recorded):
                asked = self._replay(step, recorded[step])
            elif state.stop is not None and state.stop.reason is not StopReason.EVALUATIONS:
                stop = state.stop  # it ended, and a resume does not continue it
                break
            elif step > 0 and (found := self._enough(before + self.clock() - started)):
                stop = found
                break
            else:
                asked = self._ask(step)
            if not asked:
                stop = Stop(StopReason.SPACE_EXHAUSTED)
                break
            self._evaluate(asked)
            step += 1
            if step >= len(recorded):
                self.store.update_state(searched_seconds=before + self.clock() - started)
        self.store.update_state(stop=stop)
        self._record_outlook(step)
        return self.told

    def _enough(self, seconds: float) -> Stop | None:
        """Why the search ends before its evaluations are used up, after these seconds; None while it does not."""
        minutes, plateau = self.budget.minutes, self.budget.plateau
        if minutes is not None and seconds >= 60 * minutes:
            return Stop(StopReason.MINUTES, minutes=minutes)
        if plateau is not None and self.volume:
            until = len(self.told) - plateau.evaluations
            earlier = [volume for n, volume in self.volumes if self.budget.plateau_from <= n <= until]
            if earlier and self.volume - earlier[-1] <= plateau.gain * self.volume:
                return Stop(StopReason.PLATEAU, plateau=plateau)
        message = self.enough(self.told)
        return Stop(StopReason.CALLBACK, message=message) if message else None

    def _record_outlook(self, step: int) -> None:
        """Keeps what the last models expect of the networks that would be measured next: shown, as predicted."""
        if self.algorithm.fits() and self.algorithm.ask(self.batch):
            self._record_fits(step)

    def _record_fits(self, step: int) -> None:
        for objective, fit in self.algorithm.fits().items():
            self.store.record_fit(Fit(step, objective, fit))

    def _ask(self, step: int) -> list[Architecture]:
        if step == 0:
            asked = list(dict.fromkeys([self.space.smallest, self.space.largest]))
        else:
            asked = self.algorithm.ask(min(self.batch, self.budget.evaluations - len(self.told)))
            self._record_fits(step)
        if asked:
            self.store.record_ask(step, asked)
        return asked

    def _replay(self, step: int, recorded: list[Architecture]) -> list[Architecture]:
        if step == 0:
            return recorded
        again = self.algorithm.replay(recorded)
        if list(again) != recorded:
            self.store.record_event(
                "replay-differs", {"step": step, "recorded": [a.key for a in recorded], "now": [a.key for a in again]}
            )
        return recorded

    def _evaluate(self, asked: list[Architecture]) -> None:
        found: dict[Request, Measurement] = {}
        if self.screen_images is None or self.reference is None:  # the anchors are taken whole
            self._take(asked, [(o, Fidelity.SEARCH) for o in self.figures], found, asked)
        else:
            self._take_in_stages(asked, self._stages(self.screen_images), found)
        evaluations = [partial(a, self.figures, found, self.precisions) for a in asked]
        self._check_failures(evaluations)
        self.algorithm.tell(evaluations)
        self.told += evaluations
        whole = [e for e in evaluations if not (e.screened_out or e.failed)]
        self._note_miss(whole)
        reference = self._set_reference(evaluations) if self.reference is None else self.reference
        rows = np.vstack([self.front, feasible_values(whole, self.objectives, self.constraints)])
        self.front = rows[non_dominated(rows)]
        self.volume = hypervolume(self.front, reference)
        self.volumes.append((len(self.told), self.volume))
        self._show(0)

    def _take(
        self,
        candidates: Sequence[Architecture],
        wanted: Sequence[tuple[Objective, Fidelity]],
        found: dict[Request, Measurement],
        asked: Sequence[Architecture],
    ) -> None:
        """Adds measurements of candidates to those found; counts what of the batch asked has all of its figures."""
        request = self.precisions.request
        missing = {a: sum(request(a, o) not in found for o in self.figures) for a in asked}
        for measurement in self.evaluator.evaluate([request(a, o, f) for a in candidates for o, f in wanted]):
            found[measurement.request] = measurement  # the cache has committed it
            missing[self.precisions.candidate(measurement.request)] -= (
                measurement.request.fidelity is not Fidelity.SCREEN
            )
            complete = sum(n == 0 for n in missing.values())
            if complete < len(
                asked
            ):  # the whole batch is shown once it is told, with the front and volume that it makes
                self._show(complete)

    def _stages(self, images: int) -> Stages:
        """The order of this run's figures: set once, because it goes by seconds that were measured."""
        first = self.store.state().screened_first
        if first is None:
            n_anchors = len({self.space.smallest, self.space.largest})
            first = screened_first(self.told[:n_anchors], self.figures, images)
            self.store.update_state(screened_first=first)
        return Stages.of(self.figures, screened_first=first)

    def _take_in_stages(self, asked: Sequence[Architecture], stages: Stages, found: dict[Request, Measurement]) -> None:
        """Adds the measurements of a batch; after each stage, what is not worth the rest is recorded so, and left."""
        left = list(asked)
        for step, wanted in enumerate(stages.steps):
            self._take(left, wanted, found, asked)
            if left and stages.after(step):
                left = self._leave(left, step, stages.after(step), found)

    def _leave(
        self,
        candidates: Sequence[Architecture],
        step: int,
        rest: Sequence[Objective],
        found: dict[Request, Measurement],
    ) -> list[Architecture]:
        """The candidates that are worth the rest of their figures: as recorded, else as decided and recorded now."""
        requests = {a: [self.precisions.request(a, o) for o in rest] for a in candidates}
        known = self.store.find([r for own in requests.values() for r in own])
        recorded = {a: [known[r] for r in own if r in known] for a, own in requests.items()}
        left = {a: recorded[a][0].message for a in candidates if was_left(recorded[a], step)}
        undecided = [a for a in candidates if was_left(recorded[a], step) is None]
        evaluations = [partial(a, self.figures, found, self.precisions) for a in undecided]
        verdicts = worth(evaluations, self.objectives, self.constraints, self.front, self.algorithm)
        left |= {a: why for a, why in zip(undecided, verdicts, strict=True) if why}
        for candidate, why in left.items():
            for request in requests[candidate]:
                found[request] = known.get(request) or Measurement.skipped(request, why, stage=step)
                self.store.add(found[request])
        return [a for a in candidates if a not in left]

    def _set_reference(self, anchors: list[Evaluation]) -> NDArray[np.float64]:
        """The hypervolume's reference point, once for the run, from the smallest and the largest network."""
        for evaluation in anchors:
            if evaluation.failed:
                which = "smallest" if evaluation.architecture == self.space.smallest else "largest"
                raise EvaluationError(f"the {which} network could not be evaluated: {_why(evaluation)}")
        ends = minimised(anchors, self.objectives)
        self.reference = reference_point(ends[0], ends[-1])
        natural = tuple(o.sign * float(r) for o, r in zip(self.objectives, self.reference, strict=True))
        self.store.update_state(reference=natural)
        return self.reference

    def _note_miss(self, evaluations: list[Evaluation]) -> None:
        """Keeps the nearest of all that have their figures in mind, while none of those is feasible."""
        self.any_feasible |= bool((violations(evaluations, self.constraints) == 0).any())
        found = nearest(evaluations, self.constraints)
        if self.any_feasible:
            self.miss = None
        elif found is not None and (self.miss is None or found.violation < self.miss.violation):
            self.miss = found

    def _check_failures(self, evaluations: list[Evaluation]) -> None:
        for evaluation in evaluations:
            if not evaluation.failed:
                self.failures_in_a_row.clear()
                continue
            self.failures += 1
            self.failures_in_a_row.append(evaluation)
            if len(self.failures_in_a_row) >= _MAX_FAILURES_IN_A_ROW:
                raise EvaluationError(
                    f"{_MAX_FAILURES_IN_A_ROW} candidates failed one after another, the first with: "
                    f"{_why(self.failures_in_a_row[0])}; mend that, then go on with `nas resume`, which tries them again"
                )

    def _show(self, in_flight: int) -> None:
        done = len(self.told) + in_flight
        self.on_progress(
            Progress("searching", done, self.budget.evaluations, self.volume, len(self.front), self.failures, self.miss)
        )


def _why(evaluation: Evaluation) -> str:
    return next(m.message for m in evaluation.measurements.values() if m.status is Status.FAILED)


def finalists(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    anchors: Sequence[Architecture],
    constraints: Sequence[Constraint] = (),
) -> list[Architecture]:
    """The architectures to measure again: the feasible front, what timing noise may put on it, and the anchors.

    Only latency can come out otherwise when it is measured again. A network that would be on the front if it were faster
    by its noise floor may belong there, and the longer protocol decides. What keeps a limit by less than noise may break
    it then, so the front of those that keep it by more comes along. Where nothing is feasible, the nearest are taken.
    """
    usable = [e for e in evaluations if not e.failed and not e.screened_out]
    amounts = violations(usable, constraints)
    if not (amounts == 0).any():
        nearest_first = np.argsort(amounts, kind="stable")[:_MAX_NEAREST]
        return list(dict.fromkeys([*(usable[i].architecture for i in nearest_first), *anchors]))
    values = minimised(usable, objectives)
    errors = np.array(
        [[(e.measurements[o.name].error or 0.0) * (o.profile is not None) for o in objectives] for e in usable]
    )
    front = np.zeros(len(usable), dtype=bool)
    for floors in _FLOORS if constraints else (0,):
        kept = feasible_within_noise(usable, constraints, floors=floors)
        front |= non_dominated(np.where(kept[:, None], values, np.nan))
    chosen = {usable[i].architecture: None for i in np.flatnonzero(front)}
    optimistic, may_keep = values - errors, feasible_within_noise(usable, constraints, floors=-1)
    ahead = values[front]
    for i in np.flatnonzero(~front & may_keep):
        if len(chosen) >= max(MAX_FINALISTS, int(front.sum())):
            break
        beaten = np.all(ahead <= optimistic[i], axis=1) & np.any(ahead < optimistic[i], axis=1)
        if not beaten.any():
            chosen.setdefault(usable[i].architecture, None)
    return list(dict.fromkeys([*chosen, *anchors]))


def measure_again(
    architectures: Sequence[Architecture],
    figures: Sequence[Objective],
    evaluator: Evaluator,
    store: RunStore,
    *,
    precisions: Precisions = Precisions(),  # noqa: B008 - a frozen value
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Times the finalists by the longer protocol and scores them on the test part; figures in the store are not redone."""
    store.update_state(finalists=tuple(architectures))
    requests = [precisions.test_request(a) for a in architectures]
    timed = [o for o in figures if o.profile is not None]
    requests += [precisions.request(a, o, Fidelity.FINAL) for o in timed for a in architectures]
    missing = {a: 1 + len(timed) for a in architectures}
    for measurement in Cached(evaluator, store.find, keep=store.add).evaluate(requests):
        missing[precisions.candidate(measurement.request)] -= 1
        done = sum(n == 0 for n in missing.values())
        on_progress(Progress("measuring the front again", done, len(missing)))
