"""The read-only view of a run that `nas show`, `nas plot` and `nas export` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.analysis.points import Point, Points, minimised_of, values_of
from nas.analysis.run_measurements import Guidance, MeasuredRun, predicted_figures, predictor_history
from nas.analysis.significance import distinguishable
from nas.errors import StoreError, UnknownNameError
from nas.problem.constraints import NearestInfeasible, total_violation
from nas.problem.objectives import EXACT_METRICS, Constraint, Fidelity, Goal, Objective, metrics_of
from nas.problem.pareto import hypervolume, hypervolume_history, non_dominated
from nas.store.base import Fit, RunStatus, RunStore
from supernets.space import Architecture, SearchSpace

Anchor = Literal["smallest", "largest"]
SHORT = "by the search's shorter protocol alone: not measured again, nor scored on the test part"


@dataclass(frozen=True, slots=True)
class Nearest:
    """The network that comes nearest to keeping all constraints, and how it misses them."""

    point: Point
    miss: NearestInfeasible


@dataclass(frozen=True, slots=True)
class PredictorReport:
    """How well one objective was predicted: quality of the latest fit, and of every fit as (step, quality)."""

    latest: Mapping[str, Any]
    history: tuple[tuple[int, Mapping[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything that is shown of a run, from its stored rows alone.

    Attributes:
        run: the run's id.
        name: the job's name; the id where it has none.
        space: what was searched; with precisions as a last choice where there are several.
        n_evaluations: architectures evaluated, failed ones included.
        budget: evaluations that the job allows; None where only time limits it.
        metrics: all that every measured network has: the run's objectives, and what its constraints alone are on.
        constraints: what a network must keep to be on a front.
        evaluated: measured architectures in the order told, with their search figures.
        candidates: measured architectures in the order told, with their final figures where they were measured again
            (without those where that failed): what a selection chooses from.
        measured_again: whether any candidate has final figures.
        failed: why, by key of each architecture of which a figure could not be taken.
        screened_out: why, by key of each architecture that was left before all of its figures were taken.
        front: the measured non-dominated architectures that keep the constraints, best first objective-to-minimise first
            (the fastest, as a rule); once candidates were measured again, those only and with their final figures.
        fronts: where several profiles have objectives, by profile the front in its own objectives and those without
            profile, of the same candidates as `front`, its cheapest first.
        nearest: what comes nearest to keeping the constraints, where nothing that the front is chosen from does.
        anchors: the smallest and the largest network, as far as they are measured.
        reference: the hypervolume's reference point by objective name, natural sign; empty until it is set.
        hypervolume: (evaluations, value) after each evaluation, of search figures of feasible networks, in the objectives'
            units multiplied.
        front_hypervolume: of `front`, from the figures it shows; None until the reference is set.
        predictors: by objective name.
        predicted: architectures never measured whose every measured objective the latest models predicted.
        distinguishable: by objective name, whether the front's fastest and most accurate members differ; empty while
            there is no front.
    """

    run: str
    name: str
    status: RunStatus
    reason: str
    space: SearchSpace
    objectives: tuple[Objective, ...]
    metrics: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    profiles: tuple[str, ...]
    n_evaluations: int
    budget: int | None
    evaluated: Points
    candidates: Points
    measured_again: bool
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
    predicted: tuple[Point, ...]
    distinguishable: Mapping[str, bool]

    @property
    def primary(self) -> Objective:
        """What quality means here: accuracy if it is an objective, else the first objective."""
        return next((o for o in self.objectives if o.metric == "accuracy"), self.objectives[0])

    @property
    def columns(self) -> tuple[Objective, ...]:
        """The figures to show of a network: the objectives, and what constraints alone are on."""
        return tuple(metrics_of(self.objectives, self.constraints))

    @property
    def cost(self) -> Objective:
        """What it is traded for: the first latency, else the first objective to minimise, else the first."""
        return cost_objective(self.objectives)


def is_short(report: RunReport, point: Point) -> bool:
    """Whether timed figures of a measured point come from the search's shorter protocol, while others' are final."""
    return (
        report.measured_again
        and point.source == "measured"
        and point.fidelity is Fidelity.SEARCH
        and any(o.profile is not None for o in report.columns)
    )


def cost_objective(objectives: Sequence[Objective]) -> Objective:
    """The first latency, else the first objective to minimise, else the first."""
    latencies = [o for o in objectives if o.metric == "latency_ms"]
    costs = [o for o in objectives if o.goal is Goal.MINIMIZE]
    return [*latencies, *costs, *objectives][0]


def best(points: Sequence[Point], objective: Objective) -> Point:
    """The point with the best figure in one objective; the first of equals. `points` must not be empty."""
    return min(points, key=lambda point: objective.sign * point.values[objective.name])


def build_report(
    store: RunStore, *, run: str, profile: str | None = None, guidance: Guidance | None = None
) -> RunReport:
    """The report of a run in any state, from its store.

    Args:
        profile: that of one hardware profile alone: in its objectives and those without profile. None for the joint one.
        guidance: of this store, where it was read already.

    Raises:
        UnknownNameError: the run has no objective on such a profile.
        StoreError: the store lacks the facts of a search (for instance, the run is a training), or is damaged.
    """
    facts, state = store.facts(), store.state()
    if facts is None or facts.search is None:
        raise StoreError(
            f"run {run!r} is no search, so it has no front; search a training by a job with   "
            f"supernet: {{from: {run}}}",
            code="run.is-training",
        )
    search = facts.search
    space, every, constraints = search.space, search.objectives, search.constraints
    names = list(dict.fromkeys(o.profile for o in every if o.profile is not None))
    if profile is not None and profile not in names:
        raise UnknownNameError("profile", profile, names, where=f"run {run!r}")
    objectives = every if profile is None else of_profile(every, profile)
    guidance = guidance or Guidance.of(store)
    measured = MeasuredRun(store, search, state.finalists, guidance.asks)

    evaluated = measured.points(space, list(measured.complete), final=False)
    candidates = measured.points(space, list(measured.usable), final=True) if measured.again else evaluated
    chosen = candidates.take([candidates.places[a.key] for a in measured.candidates()])
    kept = chosen.take(np.flatnonzero(broken_by(chosen, constraints) == 0))
    feasible = comparable(kept, evaluated, objectives)
    front = front_of(feasible, objectives)
    values = state.reference or [None] * len(every)
    corner = {o.name: v for o, v in zip(every, values, strict=True) if v is not None and o in objectives}
    return RunReport(
        run=run,
        name=facts.name or run,
        status=store.status(),
        reason=store.reason(),
        space=space,
        objectives=objectives,
        metrics=measured.metrics,
        constraints=constraints,
        profiles=search.profiles if profile is None else (profile,),
        n_evaluations=len(measured.evaluated),
        budget=None if state.budget is None else state.budget.evaluations,
        evaluated=evaluated,
        candidates=candidates,
        measured_again=bool(candidates.final.any()),
        failed=measured.failures(),
        screened_out=measured.screened_out(),
        front=front,
        fronts={p: front_of(feasible, of_profile(every, p)) for p in names if len(names) > 1 and profile is None},
        nearest=None if front else nearest_of(chosen, constraints),
        anchors=_anchors(measured, space),
        reference=corner,
        hypervolume=_history(measured, evaluated, objectives, constraints, corner),
        front_hypervolume=front_hypervolume(front, objectives, corner),
        predictors=_predictors(guidance.fits, objectives),
        predicted=_predicted(guidance.fits, measured, space, objectives),
        distinguishable=_ends_differ(store, front, objectives),
    )


def of_profile(objectives: Sequence[Objective], profile: str) -> tuple[Objective, ...]:
    """The objectives on one profile, and those on none."""
    return tuple(o for o in objectives if o.profile in (None, profile))


def front_of(points: Sequence[Point], objectives: Sequence[Objective]) -> tuple[Point, ...]:
    """The non-dominated of some points, the cheapest first."""
    if not points:
        return ()
    front = [points[i] for i in np.flatnonzero(non_dominated(minimised_of(points, objectives))).tolist()]
    cost = cost_objective(objectives)
    return tuple(sorted(front, key=lambda p: (cost.sign * p.values[cost.name], p.key)))


def comparable(points: Points, searched: Points, objectives: Sequence[Objective]) -> Points:
    """The points that a front may be chosen from: those measured again, and others that lead in search figures.

    Both kinds of figures differ by more than their errors tell; so a point that was not measured again stays only where
    none of the points leads it when all are compared as the search saw them.

    Args:
        searched: these and others with their search figures.
    """
    if len(set(points.final.tolist())) < 2:
        return points
    as_searched = searched.take([searched.places[key] for key in points.keys])
    leading = {p.key for p in front_of(as_searched, objectives)}
    pairs = enumerate(zip(points.keys, points.final.tolist(), strict=True))
    return points.take([place for place, (key, final) in pairs if final or key in leading])


def broken_by(points: Sequence[Point], constraints: Sequence[Constraint]) -> NDArray[np.float64]:
    """`total_violation` of each point, (n,); infinite where a value is missing."""
    found = total_violation(constraints, lambda metric: values_of(points, metric.name), len(points))
    return np.where(np.isnan(found), np.inf, found)


def nearest_of(points: Sequence[Point], constraints: Sequence[Constraint]) -> Nearest | None:
    """The point of least violation, the first of equals; None without points."""
    if not points:
        return None
    point = points[int(np.argmin(broken_by(points, constraints)))]
    return Nearest(point, NearestInfeasible.of(point.architecture, point.values, constraints))


def _anchors(measured: MeasuredRun, space: SearchSpace) -> dict[Anchor, Point]:
    known: dict[Anchor, Architecture] = {"smallest": space.smallest, "largest": space.largest}
    found = {name: architecture for name, architecture in known.items() if architecture in measured.complete}
    return dict(zip(found, measured.points(space, list(found.values()), final=True), strict=True))


def _history(
    measured: MeasuredRun,
    evaluated: Points,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    reference: Mapping[str, float],
) -> tuple[tuple[int, float], ...]:
    if not reference or not evaluated:
        return ()
    numbers = [n for n, architecture in enumerate(measured.evaluated, start=1) if architecture in measured.complete]
    values = minimised_of(evaluated, objectives)
    values[broken_by(evaluated, constraints) > 0] = np.nan
    volumes = hypervolume_history(values, _corner(objectives, reference))
    return tuple(zip(numbers, volumes.tolist(), strict=True))


def front_hypervolume(
    front: Sequence[Point], objectives: Sequence[Objective], reference: Mapping[str, float]
) -> float | None:
    """The hypervolume of a front from the figures it shows; None without front or reference point."""
    if not reference or not front:
        return None
    return float(hypervolume(minimised_of(front, objectives), _corner(objectives, reference)))


def _predictors(fits: Sequence[Fit], objectives: Sequence[Objective]) -> dict[str, PredictorReport]:
    histories = {o.name: tuple(predictor_history(fits, o).items()) for o in objectives}
    return {name: PredictorReport(history[-1][1], history) for name, history in histories.items() if history}


def _predicted(
    fits: Sequence[Fit], measured: MeasuredRun, space: SearchSpace, objectives: Sequence[Objective]
) -> tuple[Point, ...]:
    needed = [o.name for o in objectives if o.metric not in EXACT_METRICS]
    points = []
    for architecture, predicted in predicted_figures(fits).items():
        if architecture in measured.evaluated or any(name not in predicted for name in needed):
            continue
        values = dict(predicted)
        for objective in objectives:
            exact = measured.exact(architecture, objective) if objective.metric in EXACT_METRICS else None
            if exact is not None:
                values[objective.name] = (exact, 0.0)
        points.append(
            Point(
                architecture,
                space,
                values={name: mean for name, (mean, _) in values.items()},
                errors={name: std for name, (_, std) in values.items()},
                source="predicted",
            )
        )
    return tuple(points)


def _ends_differ(store: RunStore, front: Sequence[Point], objectives: Sequence[Objective]) -> dict[str, bool]:
    if not front:
        return {}
    primary = next((o for o in objectives if o.metric == "accuracy"), objectives[0])
    fastest, most_accurate = best(front, cost_objective(objectives)), best(front, primary)
    return {o.name: distinguishable(store, fastest.architecture, most_accurate.architecture, o) for o in objectives}


def _corner(objectives: Sequence[Objective], reference: Mapping[str, float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([o.sign * reference[o.name] for o in objectives], dtype=np.float64)
