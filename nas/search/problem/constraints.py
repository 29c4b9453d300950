"""Feasibility: which candidates satisfy a job's constraints, and which violates them least."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.problem.objectives import Constraint, Evaluation, Objective, minimised
from supernets.space import Architecture


@dataclass(frozen=True, slots=True)
class NearestInfeasible:
    """The candidate of least violation, where none is feasible.

    Attributes:
        violation: over all constraints, see `total_violation`; above 0.
        broken: each constraint that it violates, with its value.
    """

    architecture: Architecture
    violation: float
    broken: tuple[tuple[Constraint, float], ...]

    @classmethod
    def from_values(
        cls, architecture: Architecture, values: Mapping[str, float], constraints: Sequence[Constraint]
    ) -> NearestInfeasible:
        """The description of a candidate with these values, by name."""
        checked = [(c, value := values[c.metric.name], float(c.violation(np.array(value)))) for c in constraints]
        broken = tuple((constraint, value) for constraint, value, amount in checked if amount > 0)
        return cls(architecture, sum(amount for _, _, amount in checked), broken)


def total_violation(
    constraints: Sequence[Constraint], values: Callable[[Objective], NDArray[np.float64]], shape: int | tuple[int, ...]
) -> NDArray[np.float64]:
    """Sums of the violations of all constraints, of this shape: 0 is feasible; NaN where a value is missing.

    Args:
        values: gives a metric's values, of this shape, in natural sign.
    """
    return sum((constraint.violation(values(constraint.metric)) for constraint in constraints), np.zeros(shape))


def violations(evaluations: Sequence[Evaluation], constraints: Sequence[Constraint]) -> NDArray[np.float64]:
    """`total_violation` of each evaluation, (n,)."""

    return total_violation(constraints, lambda m: np.array([e.value(m) for e in evaluations]), len(evaluations))


def nearest(evaluations: Sequence[Evaluation], constraints: Sequence[Constraint]) -> NearestInfeasible | None:
    """The evaluation of least violation, the first of equals; None where one is feasible, or none has all values."""
    amounts = violations(evaluations, constraints)
    if np.isnan(amounts).all() or np.nanmin(amounts) == 0:
        return None
    evaluation = evaluations[int(np.nanargmin(amounts))]
    values = {c.metric.name: evaluation.value(c.metric) for c in constraints}
    return NearestInfeasible.from_values(evaluation.architecture, values, constraints)


def feasible_values(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> NDArray[np.float64]:
    """`minimised`, with NaN rows for infeasible evaluations, which enter no front and no hypervolume."""
    values = minimised(evaluations, objectives)
    values[violations(evaluations, constraints) != 0] = np.nan
    return values


def feasible_within_noise(
    evaluations: Sequence[Evaluation], constraints: Sequence[Constraint], *, floors: float
) -> NDArray[np.bool_]:
    """Mask of the evaluations that are feasible when timing noise shifts their timed values, (n,).

    Args:
        floors: The shift, in noise floors: above 0 towards the bounds (only what is certainly feasible remains), below 0
            away from them (everything that may be feasible remains).
    """
    feasible = np.ones(len(evaluations), dtype=bool)
    for constraint in constraints:
        metric = constraint.metric
        values = np.array([e.value(metric) for e in evaluations], dtype=np.float64)
        errors = [e.measurements[metric.name].error or 0.0 for e in evaluations]
        shift = floors * np.array(errors) * (metric.profile is not None)
        if constraint.maximum is not None:
            feasible &= values + shift <= constraint.maximum
        if constraint.minimum is not None:
            feasible &= values - shift >= constraint.minimum
    return feasible
