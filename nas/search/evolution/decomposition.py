"""MOEA/D for batches: one subproblem per weight vector, each with its best network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.base.genetic import GeneticAlgorithm
from pymoo.core.population import Population
from pymoo.core.selection import Selection

from nas.search.problem.pareto import Array
from nas.search.ranking import first_front

NEIGHBOURS = 10
NEAR = 0.9
"""The probability that parents are neighbours (Li and Zhang 2009); else they are any two."""
REPLACED = 2
"""Subproblems that a network may serve, at most (Li and Zhang 2009): with more, the population loses diversity."""
_MIN_WEIGHT = 1e-3


class DecomposedEvolution(GeneticAlgorithm):  # type: ignore[misc]
    """MOEA/D with Chebyshev decomposition (Zhang and Li 2007, doi 10.1109/TEVC.2007.892759).

    pymoo's `MOEAD` evaluates child by child, and its `ParallelMOEAD` accepts only the children that it bred, in order;
    neither has constraints. Departures, so that a batch can be any networks: the children of a batch are bred from one
    population, for different subproblems; a child joins the subproblem that suits it best and may replace that one's
    neighbours (global replacement: Wang, Zhang, Zhou, Gong, Jiao 2016, doi 10.1109/TCYB.2015.2403849), not those of the
    subproblem that it was bred for. Values are scaled by the ideal and the nadir point of the population's front before
    each batch. The smaller violation wins, then the better value.

    Args:
        weights: (k, m), one per subproblem; the population has one member each, and a member may serve several.
        mate: makes the mating for a selection.
    """

    def __init__(self, weights: Array, mate: Callable[[Selection], Any]) -> None:
        self._weights = np.maximum(weights, _MIN_WEIGHT)
        apart = ((weights[:, None, :] - weights[None, :, :]) ** 2).sum(axis=2)
        self._near = np.argsort(apart, axis=1, kind="stable")[:, : max(NEIGHBOURS, 2)]
        super().__init__(pop_size=len(weights), mating=mate(_Neighbours(self._near)))

    def _initialize_advance(self, infills: Any = None, **kwargs: Any) -> None:
        """Each subproblem takes the best network that serves fewer than `REPLACED` others."""
        scaled, violation = self._scaled(infills), infills.get("CV")[:, 0]
        serves = np.zeros(len(infills), dtype=np.int64)
        slots = np.empty(len(self._weights), dtype=np.int64)
        for slot in self.random_state.permutation(len(self._weights)):
            costs = (scaled * self._weights[slot]).max(axis=1)
            # If there are too few for all, networks serve more.
            slots[slot] = np.lexsort((costs, violation, serves >= REPLACED))[0]
            serves[slots[slot]] += 1
        self.pop = infills[slots]

    def _advance(self, infills: Any = None, **kwargs: Any) -> None:
        slots = np.arange(len(self.pop))
        merged = Population.merge(self.pop, infills)
        scaled, violation = self._scaled(merged), merged.get("CV")[:, 0]
        for child in range(len(self.pop), len(merged)):
            costs = (scaled[child] * self._weights).max(axis=1)
            near = self.random_state.permutation(self._near[int(np.argmin(costs))])
            incumbent_costs = (scaled[slots[near]] * self._weights[near]).max(axis=1)
            better = (violation[child] < violation[slots[near]]) | (
                (violation[child] == violation[slots[near]]) & (costs[near] < incumbent_costs)
            )
            slots[near[better][:REPLACED]] = child
        self.pop = merged[slots]

    def _scaled(self, pop: Any) -> Array:
        """Values (n, m) with 0 at the ideal point of the best front, and 1 at its nadir."""
        values = pop.get("F")
        front = values[first_front(values, pop.get("CV")[:, 0])]
        ideal, nadir = front.min(axis=0), front.max(axis=0)
        span = np.where(nadir > ideal, nadir - ideal, np.maximum(np.ptp(values, axis=0), 1e-12))
        return np.asarray((values - ideal) / span)


class _Neighbours(Selection):  # type: ignore[misc]
    """Parents from the neighbourhoods of subproblems, in turns."""

    def __init__(self, near: NDArray[np.int64]) -> None:
        super().__init__()
        self._near = near

    def _do(
        self, problem: Any, pop: Any, n_select: int, n_parents: int, random_state: Any = None, **kwargs: Any
    ) -> NDArray[np.int64]:
        turns = np.concatenate([random_state.permutation(len(pop)) for _ in range(-(-n_select // len(pop)))])
        parents = []
        for turn in turns[:n_select]:
            members = self._near[turn] if random_state.random() < NEAR else np.arange(len(pop))
            parents.append(random_state.choice(members, n_parents, replace=len(members) < n_parents))
        return np.array(parents)
