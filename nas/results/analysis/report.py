"""The read-only view of a run that commands, the service and exports share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nas.engine.formatting import format_value, guidance_text
from nas.engine.store.base import Fit, RunStatus, RunStore
from nas.engine.store.block_costs import BlockCosts
from nas.engine.store.run_facts import SearchFacts
from nas.errors import StoreError, UnknownNameError
from nas.results.analysis import fronts
from nas.results.analysis.failures import too_noisy
from nas.results.analysis.fronts import Nearest
from nas.results.analysis.network_values import Point, Points
from nas.results.analysis.run_measurements import MeasuredRun, RecordedSteps, predicted_values, predictor_history
from nas.results.analysis.search_steps import SearchStep, search_steps
from nas.results.analysis.significance import compare
from nas.search.algorithms import label_of
from nas.search.problem.evaluation_counts import EvaluationCounts, evaluations_text
from nas.search.problem.objectives import EXACT_METRICS, Constraint, Fidelity, Objective, metrics_of
from nas.search.problem.tasks import TaskMetrics
from supernets.space import Architecture, SearchSpace

Anchor = Literal["smallest", "largest"]


@dataclass(frozen=True, slots=True)
class PredictorReport:
    """Quality of the predictors of one objective: of the latest fit, and of every fit as (step, quality)."""

    latest: Mapping[str, Any]
    history: tuple[tuple[int, Mapping[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run's networks, fronts and predictors, read from its stored rows alone.

    Attributes:
        run: Id of the run.
        name: Name of the job; the id where it has none.
        space: The search space; with the choices of the variant last (see `Variants`).
        metrics: Metrics of which every measured network has a value: the objectives, and those of constraints alone.
        task: Task for which networks were trained and scored.
        constraints: Constraints that a network must satisfy to be on a front.
        numbers: Number of each evaluated architecture in the order evaluated, from 1, by key; failed ones included.
        n_known: Number of networks that a warm start knew, which are evaluated beside the budget.
        budget: Number of evaluations that the job allows; None where only time limits it.
        algorithm: Name of the algorithm in job files.
        predictor: Name of the predictor that the job gives it; "" for none.
        models_from: Number of the first evaluation that models chose, or will choose if none before it fails; None for
            an algorithm without models, and in runs of version 0.1 without any.
        evaluated: Measured architectures in the order evaluated, with their search values.
        candidates: Measured architectures in the order evaluated, with their final values where they were measured again
            (without those where that failed): a selection chooses from these.
        measured_again: True if any candidate has final values.
        noisy: Keys of measured architectures with a value of more noise than the protocol wants.
        too_noisy: Keys of those of `failed` of which nothing failed but for the noise of the machine.
        failed: Reasons by key of each architecture with a failed measurement.
        screened_out: Reasons by key of each architecture that was skipped before all of its measurements.
        front: The measured non-dominated architectures that satisfy the constraints, the cheapest first; once candidates
            were measured again, those only and with their final values.
        fronts: Where several profiles have objectives, the front by profile, in the objectives of the profile and those
            without profile, of the same candidates as `front`, its cheapest first.
        nearest: The network of least violation, where none satisfies the constraints.
        anchors: The smallest and the largest network, as far as they are measured.
        reference: The hypervolume's reference point by objective name, natural sign; empty until it is set.
        hypervolume: (evaluations, value) after each evaluation, of search values of feasible networks, in the objectives'
            units multiplied.
        front_hypervolume: Hypervolume of `front`; None until the reference is set.
        predictors: Predictors by objective name.
        steps: Steps of the search; empty in runs that did not record how candidates were bred.
        predicted: Architectures never measured whose every measured objective the latest models predicted.
        distinguishable: By objective name, True if the front's fastest and most accurate members differ; empty while
            there is no front.
        block_costs: Costs by block of the networks that were chosen to be measured again.
    """

    run: str
    name: str
    status: RunStatus
    reason: str
    space: SearchSpace
    objectives: tuple[Objective, ...]
    metrics: tuple[Objective, ...]
    task: TaskMetrics
    constraints: tuple[Constraint, ...]
    profiles: tuple[str, ...]
    numbers: Mapping[str, int]
    n_known: int
    budget: int | None
    algorithm: str
    predictor: str
    models_from: int | None
    evaluated: Points
    candidates: Points
    measured_again: bool
    noisy: frozenset[str]
    too_noisy: frozenset[str]
    failed: Mapping[str, str]
    screened_out: Mapping[str, str]
    front: tuple[Point, ...]
    fronts: Mapping[str, tuple[Point, ...]]
    nearest: Nearest | None
    anchors: Mapping[Anchor, Point]
    reference: Mapping[str, float]
    hypervolume: tuple[tuple[int, float], ...]
    front_hypervolume: float | None
    predictors: Mapping[str, PredictorReport]
    steps: tuple[SearchStep, ...]
    predicted: tuple[Point, ...]
    distinguishable: Mapping[str, bool]
    block_costs: BlockCosts

    @property
    def n_evaluations(self) -> int:
        """Evaluations of the budget, failed ones included."""
        return len(self.numbers) - self.n_known

    @property
    def primary(self) -> Objective:
        """The objective that stands for quality."""
        return fronts.primary_objective(self.objectives)

    @property
    def scored(self) -> Objective:
        """The metric of the task that networks are scored by on the test part."""
        return self.task.scored(self.metrics)

    @property
    def columns(self) -> tuple[Objective, ...]:
        """The metrics to show of a network: the objectives, and what only constraints are on."""
        return tuple(metrics_of(self.objectives, self.constraints))

    @property
    def counts(self) -> EvaluationCounts:
        """The evaluated networks by their results."""
        n_noisy, n_too_noisy = len(self.noisy), len(self.too_noisy)
        return EvaluationCounts(
            measured=len(self.evaluated) - n_noisy,
            noisy=n_noisy,
            screened_out=len(self.screened_out),
            too_noisy=n_too_noisy,
            failed=len(self.failed) - n_too_noisy,
        )

    @property
    def evaluations_text(self) -> str:
        """``10 evaluations and 40 known networks: 48 measured, 2 failed``."""
        return evaluations_text(self.n_evaluations, self.counts, n_known=self.n_known)

    @property
    def outside_text(self) -> str:
        """The networks of the front that are worse than the reference point in an objective; "" for none.

        They add nothing to the hypervolume: the point was set by the first networks, before they were known.
        """
        n, size = fronts.n_outside(self.front, self.objectives, self.reference), len(self.front)
        if n and n == size:
            return "the whole front lies beyond it"
        verbs = "lies beyond it and adds nothing" if n == 1 else "lie beyond it and add nothing"
        return f"{n} of the {size} networks of the front {verbs}" if n else ""

    @property
    def label(self) -> str:
        """The algorithm with its predictor, ``nsga2+lightgbm``."""
        return label_of(self.algorithm, self.predictor)

    @property
    def steps_text(self) -> str:
        """The steps that models chose, and what the last of them did; "" where this is not recorded."""
        by_models = [step for step in self.steps if step.generations is not None]
        if not by_models:
            return ""
        last = by_models[-1]
        return (
            f"{len(by_models)} of {len(self.steps)} steps by models; the last of them: {last.text}, {last.proposed} proposed, "
            f"{last.measured} measured"
        )

    @property
    def guidance(self) -> str:
        """The evaluation from which models choose, or the note that none was fitted; "" for an algorithm without models."""
        if self.models_from is None or self.predictors or self.status is not RunStatus.FINISHED:
            return guidance_text(self.label, self.models_from, self.budget)
        return (
            f"{self.label}: no model was fitted in {self.n_evaluations} evaluations; models choose from evaluation "
            f"{self.models_from} on, or later where networks fail or are skipped"
        )

    @property
    def cost(self) -> Objective:
        """The objective that quality is traded for."""
        return fronts.cost_objective(self.objectives)

    def is_short(self, point: Point) -> bool:
        """Returns True if timed values of a measured point come from the search's shorter protocol, while others' are final."""
        searched = point.source == "measured" and point.fidelity is Fidelity.SEARCH
        return self.measured_again and searched and any(o.profile is not None for o in self.columns)

    def value_text(self, point: Point, metric: Objective) -> str:
        """A point's value with its error; with a star where it comes from the shorter protocol while others are final."""
        text = format_value(metric, point.values[metric.name], point.errors.get(metric.name))
        return f"{text} *" if metric.profile is not None and self.is_short(point) else text

    def note_on(self, points: Iterable[Point]) -> str:
        """The footnote of the stars of `value_text`; "" where no point has one."""
        if not any(self.is_short(point) for point in points):
            return ""
        return "* by the search's shorter protocol alone: not measured again, nor scored on the test part"

    def profiles_of(self, point: Point) -> list[str]:
        """The profiles on whose fronts a network is."""
        return [name for name, front in self.fronts.items() if any(p.key == point.key for p in front)]


def build_report(
    store: RunStore, *, run: str, profile: str | None = None, steps: RecordedSteps | None = None
) -> RunReport:
    """The report of a run in any state, from its store.

    Args:
        store: Store of the run.
        run: Id of the run.
        profile: Report on the objectives of one hardware profile and those without profile; None for all objectives.
        steps: Steps of this store, if they were read already.

    Raises:
        UnknownNameError: The run has no objective on such a profile.
        StoreError: The run is not a search but a training, or its store is damaged.
    """
    facts = store.facts()
    if facts is None:
        raise StoreError(f"run {run!r} has not begun: no driver has described it yet", code="run.not-begun")
    if facts.search is None:
        problem = f"run {run!r} is a training and has no front; to search its supernet, write a job with"
        raise StoreError(f"{problem}   supernet: {{from: {run}}}", code="run.not-a-search")
    search = facts.search
    names = _profiles_of(search.objectives)
    if profile is not None and profile not in names:
        raise UnknownNameError("profile", profile, names, where=f"run {run!r}")
    return _report(store, search, run, facts.name or run, profile, steps or RecordedSteps.read(store))


def _report(
    store: RunStore, search: SearchFacts, run: str, name: str, profile: str | None, steps: RecordedSteps
) -> RunReport:
    state, space, every, constraints = store.state(), search.space, search.objectives, search.constraints
    objectives = every if profile is None else fronts.of_profile(every, profile)
    measured = MeasuredRun(store, search, state.finalists, steps.asks)
    networks = _networks(measured, space, objectives, constraints)
    values = state.reference or [None] * len(every)
    corner = {o.name: v for o, v in zip(every, values, strict=True) if v is not None and o in objectives}
    failed = measured.failures()
    return RunReport(
        run=run,
        name=name,
        status=store.status(),
        reason=store.reason(),
        space=space,
        objectives=objectives,
        metrics=measured.metrics,
        task=search.task,
        constraints=constraints,
        profiles=search.profiles if profile is None else (profile,),
        numbers={architecture.key: n for n, architecture in enumerate(measured.evaluated, start=1)},
        n_known=sum(architecture in measured.evaluated for architecture in search.known_candidates),
        budget=None if state.budget is None else state.budget.evaluations,
        algorithm=search.algorithm,
        predictor=search.predictor,
        models_from=_first_modelled(steps, search),
        evaluated=networks.evaluated,
        candidates=networks.candidates,
        measured_again=bool(networks.candidates.final.any()),
        noisy=measured.noisy(),
        too_noisy=too_noisy(store, search) & failed.keys() if failed else frozenset(),
        failed=failed,
        screened_out=measured.screened_out(),
        front=networks.front,
        fronts=_fronts_by_profile(networks.feasible, every) if profile is None else {},
        nearest=None if networks.front else fronts.nearest_of(networks.chosen, constraints),
        anchors=_anchors(measured, space),
        reference=corner,
        hypervolume=_history(measured, networks.evaluated, objectives, constraints, corner, search.n_spent),
        front_hypervolume=fronts.front_hypervolume(networks.front, objectives, corner),
        predictors=_predictors(steps.fits, objectives),
        steps=search_steps(steps, measured.complete),
        predicted=_predicted(steps.fits, measured, space, objectives),
        distinguishable=_ends_differ(store, networks.front, objectives),
        block_costs=store.block_costs(),
    )


@dataclass(frozen=True, slots=True)
class _Networks:
    """The measured networks of a run: all, then fewer and fewer.

    Attributes:
        evaluated, candidates, front: Networks as in `RunReport`.
        chosen: The finalists among the candidates; all candidates before there are any.
        feasible: Networks of `chosen` that a front may be chosen from.
    """

    evaluated: Points
    candidates: Points
    chosen: Points
    feasible: Points
    front: tuple[Point, ...]


def _networks(
    measured: MeasuredRun, space: SearchSpace, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> _Networks:
    evaluated = measured.points(space, list(measured.complete), final=False)
    candidates = measured.points(space, list(measured.usable), final=True) if measured.again else evaluated
    chosen = candidates.take([candidates.places[a.key] for a in measured.candidates()])
    within_limits = chosen.take(np.flatnonzero(fronts.broken_by(chosen, constraints) == 0))
    feasible = fronts.comparable(within_limits, evaluated, objectives)
    return _Networks(evaluated, candidates, chosen, feasible, fronts.front_of(feasible, objectives))


def _fronts_by_profile(points: Points, objectives: Sequence[Objective]) -> dict[str, tuple[Point, ...]]:
    """The front on each profile; empty where fewer than two have objectives."""
    names = _profiles_of(objectives)
    return {p: fronts.front_of(points, fronts.of_profile(objectives, p)) for p in names} if len(names) > 1 else {}


def _profiles_of(objectives: Sequence[Objective]) -> list[str]:
    return list(dict.fromkeys(o.profile for o in objectives if o.profile is not None))


def _anchors(measured: MeasuredRun, space: SearchSpace) -> dict[Anchor, Point]:
    anchors: dict[Anchor, Architecture] = {"smallest": space.smallest, "largest": space.largest}
    measured_anchors = {
        name: architecture for name, architecture in anchors.items() if architecture in measured.complete
    }
    return dict(zip(measured_anchors, measured.points(space, list(measured_anchors.values()), final=True), strict=True))


def _history(
    measured: MeasuredRun,
    evaluated: Points,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    reference: Mapping[str, float],
    n_spent: Callable[[int], int],
) -> tuple[tuple[int, float], ...]:
    if not reference or not evaluated:
        return ()
    places = enumerate(measured.evaluated, start=1)
    numbers = [n_spent(place) for place, architecture in places if architecture in measured.complete]
    return tuple(zip(numbers, fronts.hypervolumes(evaluated, objectives, constraints, reference), strict=True))


def _first_modelled(steps: RecordedSteps, search: SearchFacts) -> int | None:
    """The number of the first evaluation after a fit; without one, as it was foreseen when the run began."""
    if not steps.fits:
        return search.models_from
    first = min(fit.step for fit in steps.fits)
    return search.n_spent(sum(map(len, steps.asks[:first]))) + 1


def _predictors(fits: Sequence[Fit], objectives: Sequence[Objective]) -> dict[str, PredictorReport]:
    histories = {o.name: tuple(predictor_history(fits, o).items()) for o in objectives}
    return {name: PredictorReport(history[-1][1], history) for name, history in histories.items() if history}


def _predicted(
    fits: Sequence[Fit], measured: MeasuredRun, space: SearchSpace, objectives: Sequence[Objective]
) -> tuple[Point, ...]:
    needed = [o.name for o in objectives if o.metric not in EXACT_METRICS]
    points = []
    for architecture, predicted in predicted_values(fits).items():
        if architecture in measured.evaluated or any(name not in predicted for name in needed):
            continue
        exact = {o.name: measured.exact(architecture, o) for o in objectives if o.metric in EXACT_METRICS}
        value_pairs = predicted | {name: (value, 0.0) for name, value in exact.items() if value is not None}
        means, deviations = ({name: pair[i] for name, pair in value_pairs.items()} for i in (0, 1))
        points.append(Point(architecture, space, means, deviations, source="predicted"))
    return tuple(points)


def _ends_differ(store: RunStore, front: Sequence[Point], objectives: Sequence[Objective]) -> dict[str, bool]:
    if not front:
        return {}
    fastest = fronts.best(front, fronts.cost_objective(objectives)).architecture
    most_accurate = fronts.best(front, fronts.primary_objective(objectives)).architecture
    return {o.name: compare(store, fastest, most_accurate, o).distinguishable for o in objectives}
