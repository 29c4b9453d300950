"""Solvers for a space, fitted to the networks that were measured so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from nas.search.budgets.additive_scores import additive_scores
from nas.search.budgets.cost_terms import CostTerms, Parts
from nas.search.budgets.linear_costs import FittedParts, LinearCost, computed_cost, fitted_cost
from nas.search.budgets.solver import BudgetSolver
from nas.search.problem.objectives import EXACT_METRICS
from nas.search.problem.pareto import Array
from supernets.space import INACTIVE, Architecture, SearchSpace

_SHARES = "macs"
"""The cost in proportion to which choices lose, where nothing measured tells them apart."""


@dataclass(frozen=True, eq=False)
class SolverFitting:
    """Fits solvers; the terms of costs are found once.

    Args:
        space: Space of candidates.
        parts: Parts of each cost by name, multiply-accumulates among them; see `FittedParts` for timed ones.
        seed: A number of at least 0.
        losses: What each level of each choice alone adds to the loss, up to a factor of all, (n_levels,) each; without them,
            choices that no measured network tells apart lose in proportion to the multiply-accumulates that they remove.
    """

    space: SearchSpace
    parts: Mapping[str, Parts | FittedParts]
    seed: int
    losses: Sequence[Array] = ()
    _terms: dict[str, CostTerms] = field(default_factory=dict, init=False, repr=False)

    def solver(
        self, networks: Sequence[Architecture], losses: Sequence[float], timed: Mapping[str, Sequence[float]]
    ) -> BudgetSolver:
        """A solver by scores and timed costs of measured networks; costs with too few measured networks are missing.

        Args:
            networks: n measured networks, the largest among them.
            losses: What the solver keeps low, (n,), smaller is better.
            timed: Values of timed costs, (n,) each, by name; NaN where a network has none.
        """
        costs = {_SHARES: self._computed(_SHARES)}
        scores = additive_scores(self.space, networks, losses, self.losses or self._shares(costs[_SHARES]))
        for name in self.parts:
            if name.partition("@")[0] in EXACT_METRICS:
                costs[name] = self._computed(name)
            elif name in timed:
                values = np.asarray(timed[name], dtype=np.float64)
                usable = np.flatnonzero(np.isfinite(values) & (values > 0)).tolist()
                parts = cast(FittedParts, self.parts[name])
                cost = fitted_cost(name, self._of(name), parts, [networks[i] for i in usable], values[usable].tolist())
                costs |= {} if cost is None else {name: cost}
        return BudgetSolver(self.space, scores, costs)

    def _computed(self, name: str) -> LinearCost:
        return computed_cost(name, self._of(name), self.parts[name])

    def _of(self, name: str) -> CostTerms:
        if name not in self._terms:
            self._terms[name] = CostTerms(self.space, self.parts[name], np.random.default_rng(self.seed))
        return self._terms[name]

    def _shares(self, cost: LinearCost) -> list[Array]:
        """The share of a cost of the largest network that each level of each choice alone removes, (n_levels,) each."""
        largest, networks = self.space.largest, list[Architecture]()
        for i, n_levels in enumerate(self.space.levels.tolist()):
            for level in range(n_levels):
                genes = list(largest.genes)
                genes[i] = INACTIVE if genes[i] == INACTIVE else level
                networks.append(self.space.canonical([0 if gene == INACTIVE else gene for gene in genes]))
        removed = 1 - cost(networks) / cost([largest])
        return [np.asarray(part) for part in np.split(removed, np.cumsum(self.space.levels)[:-1])]
