"""Fronts of measured networks: non-dominated sets under constraints, and their hypervolume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.results.analysis.network_values import Array, Point, Points, minimised_of, values_of
from nas.search.problem.constraints import NearestInfeasible, total_violation
from nas.search.problem.objectives import Constraint, Goal, Objective
from nas.search.problem.pareto import hypervolume, hypervolume_history, non_dominated


@dataclass(frozen=True, slots=True)
class Nearest:
    """The network with the least constraint violation, and the constraints that it breaks."""

    point: Point
    miss: NearestInfeasible


def primary_objective(objectives: Sequence[Objective]) -> Objective:
    """The objective that stands for quality: the task's metric, such as the accuracy, else the first."""
    return next((o for o in objectives if o.of_task), objectives[0])


def cost_objective(objectives: Sequence[Objective]) -> Objective:
    """The objective that stands for cost: the first latency, else the first to minimise but the task's, else the first."""
    latencies = [o for o in objectives if o.metric == "latency_ms"]
    costs = [o for o in objectives if o.goal is Goal.MINIMIZE and not o.of_task]
    return [*latencies, *costs, *objectives][0]


def best(points: Sequence[Point], objective: Objective) -> Point:
    """The point with the best value of one objective; the first of equals. `points` must not be empty."""
    return min(points, key=lambda point: objective.sign * point.values[objective.name])


def of_profile(objectives: Sequence[Objective], profile: str) -> tuple[Objective, ...]:
    """The objectives on one profile, and those on none."""
    return tuple(o for o in objectives if o.profile in (None, profile))


def front_of(points: Sequence[Point], objectives: Sequence[Objective]) -> tuple[Point, ...]:
    """The non-dominated points, the cheapest first."""
    if not points:
        return ()
    front = [points[i] for i in np.flatnonzero(non_dominated(minimised_of(points, objectives))).tolist()]
    cost = cost_objective(objectives)
    return tuple(sorted(front, key=lambda p: (cost.sign * p.values[cost.name], p.key)))


def comparable(points: Points, searched: Points, objectives: Sequence[Objective]) -> Points:
    """The points that a front may be chosen from: those measured again, and others that are non-dominated in search values.

    Values of the two protocols differ by more than their errors; so a point that was not measured again stays only where
    no point dominates it when all are compared by their search values.

    Args:
        searched: these points and others, with their search values.
    """
    if len(set(points.final.tolist())) < 2:
        return points
    as_searched = searched.take([searched.places[key] for key in points.keys])
    leading = {p.key for p in front_of(as_searched, objectives)}
    pairs = enumerate(zip(points.keys, points.final.tolist(), strict=True))
    return points.take([place for place, (key, final) in pairs if final or key in leading])


def broken_by(points: Sequence[Point], constraints: Sequence[Constraint]) -> NDArray[np.float64]:
    """`total_violation` of each point, (n,); infinite where a value is missing."""
    violation = total_violation(constraints, lambda metric: values_of(points, metric.name), len(points))
    return np.where(np.isnan(violation), np.inf, violation)


def nearest_of(points: Sequence[Point], constraints: Sequence[Constraint]) -> Nearest | None:
    """The point of least violation, the first of equals; None without points."""
    if not points:
        return None
    point = points[int(np.argmin(broken_by(points, constraints)))]
    return Nearest(point, NearestInfeasible.from_values(point.architecture, point.values, constraints))


def front_hypervolume(
    front: Sequence[Point], objectives: Sequence[Objective], reference: Mapping[str, float]
) -> float | None:
    """The hypervolume of a front; None without front or reference point (natural sign, by objective name)."""
    if not reference or not front:
        return None
    return float(hypervolume(minimised_of(front, objectives), _corner(objectives, reference)))


def n_outside(front: Sequence[Point], objectives: Sequence[Objective], reference: Mapping[str, float]) -> int:
    """The number of members of a front that add no volume, since the reference point is not worse in an objective."""
    if not reference or not front:
        return 0
    return int((minimised_of(front, objectives) >= _corner(objectives, reference)).any(axis=1).sum())


def hypervolumes(
    points: Sequence[Point],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    reference: Mapping[str, float],
) -> list[float]:
    """The hypervolume after each point, of those that keep all constraints."""
    values = minimised_of(points, objectives)
    values[broken_by(points, constraints) > 0] = np.nan
    history: list[float] = hypervolume_history(values, _corner(objectives, reference)).tolist()
    return history


def _corner(objectives: Sequence[Objective], reference: Mapping[str, float]) -> Array:
    return np.array([o.sign * reference[o.name] for o in objectives], dtype=np.float64)
