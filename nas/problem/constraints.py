"""Which candidates keep a job's constraints, and the nearest where none does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.objectives import Constraint, Evaluation, Objective, minimised, violations
from supernets.space import Architecture


@dataclass(frozen=True, slots=True)
class Miss:
    """The candidate that comes nearest to keeping all constraints, where none does.

    Attributes:
        violation: what it breaks of all constraints together, see `violations`; above 0.
        broken: each constraint that it breaks, with its figure.
    """

    architecture: Architecture
    violation: float
    broken: tuple[tuple[Constraint, float], ...]

    @classmethod
    def of(cls, architecture: Architecture, values: Mapping[str, float], constraints: Sequence[Constraint]) -> Miss:
        """How a candidate with these figures, by name, misses the constraints."""
        figures = [(c, values[c.metric.name]) for c in constraints]
        amounts = [(c, value, float(c.violation(np.array([value]))[0])) for c, value in figures]
        broken = tuple((constraint, value) for constraint, value, amount in amounts if amount > 0)
        return cls(architecture, sum(amount for _, _, amount in amounts), broken)


def violations_of(
    values: Mapping[str, NDArray[np.float64]], constraints: Sequence[Constraint], n: int
) -> NDArray[np.float64]:
    """What figures, (n,) each by name, break of all constraints together, (n,): 0 is feasible; infinite where one is NaN."""
    out = np.zeros(n)
    for constraint in constraints:
        out += constraint.violation(values[constraint.metric.name])
    return np.where(np.isnan(out), np.inf, out)


def nearest(evaluations: Sequence[Evaluation], constraints: Sequence[Constraint]) -> Miss | None:
    """The evaluation of least violation, the first of equals; None where one is feasible, or none has all figures."""
    amounts = violations(evaluations, constraints)
    if np.isnan(amounts).all() or np.nanmin(amounts) == 0:
        return None
    found = evaluations[int(np.nanargmin(amounts))]
    return Miss.of(found.architecture, {c.metric.name: found.value(c.metric) for c in constraints}, constraints)


def feasible_values(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> NDArray[np.float64]:
    """`minimised`, with NaN rows for those that break a constraint, too: they enter no front and no hypervolume."""
    values = minimised(evaluations, objectives)
    values[violations(evaluations, constraints) != 0] = np.nan
    return values


def keeping(
    evaluations: Sequence[Evaluation], constraints: Sequence[Constraint], *, floors: float
) -> NDArray[np.bool_]:
    """Which evaluations keep all constraints when their timed figures come out otherwise by noise, (n,).

    Args:
        floors: by how many times its noise floor each timed figure moves: above 0 away from the bounds (so that only
            what surely keeps them does), below 0 towards them (whatever may keep them does).
    """
    kept = np.ones(len(evaluations), dtype=bool)
    for constraint in constraints:
        figures = np.array([e.value(constraint.metric) for e in evaluations], dtype=np.float64)
        room = floors * np.array(
            [(e.measurements[constraint.metric.name].error or 0.0) * (constraint.metric.profile is not None)
             for e in evaluations]
        )  # fmt: skip
        if constraint.maximum is not None:
            kept &= figures + room <= constraint.maximum
        if constraint.minimum is not None:
            kept &= figures - room >= constraint.minimum
    return kept
