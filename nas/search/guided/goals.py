"""What a search compares networks by: objectives to improve, and constraints to keep, on figures in one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.problem.objectives import Constraint, Objective
from nas.problem.pareto import Array


class Goals:
    """Objectives and constraints over columns of minimised figures: the objectives, then what only constraints need.

    Attributes:
        figures: what the columns are.
        n_objectives: how many of the columns, from the first on, are objectives.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self.figures = list(dict.fromkeys([*objectives, *(c.metric for c in constraints)]))
        self.n_objectives = len(objectives)
        self._bounds = [(self.figures.index(c.metric), c) for c in constraints]

    def objectives(self, values: Array) -> Array:
        """The objectives of figures (..., n_figures), (..., n_objectives)."""
        return values[..., : self.n_objectives]

    def violations(self, values: Array) -> Array:
        """What figures (..., n_figures) break of all constraints together, (...): 0 where they keep them."""
        out = np.zeros(values.shape[:-1])
        for column, constraint in self._bounds:
            out = out + constraint.violation(constraint.metric.sign * values[..., column])
        return out

    def feasible(self, values: Array) -> Array:
        """The objectives of figures, infinite where a constraint is broken: what adds nothing to a front."""
        broken = self.violations(values) > 0
        return np.where(broken[..., None], np.inf, self.objectives(values))
