"""Objectives and constraints over columns of predicted values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.problem.constraints import total_violation
from nas.problem.objectives import Constraint, Objective, metrics_of
from nas.problem.pareto import Array


class Goals:
    """Objectives and constraints over columns of minimised values: the objectives, then the metrics of constraints alone.

    Attributes:
        metrics: of the columns.
        n_objectives: the number of columns, from the first on, that are objectives.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self.metrics = metrics_of(objectives, constraints)
        self.n_objectives = len(objectives)
        self._constraints = list(constraints)

    def objectives(self, values: Array) -> Array:
        """The objectives of values (..., n_metrics), (..., n_objectives)."""
        return values[..., : self.n_objectives]

    def violations(self, values: Array) -> Array:
        """`total_violation` of values (..., n_metrics), (...)."""
        return total_violation(
            self._constraints, lambda m: m.sign * values[..., self.metrics.index(m)], values.shape[:-1]
        )

    def feasible(self, values: Array) -> Array:
        """The objectives of values, infinite where a constraint is violated: they improve no front."""
        violated = self.violations(values) > 0
        return np.where(violated[..., None], np.inf, self.objectives(values))
