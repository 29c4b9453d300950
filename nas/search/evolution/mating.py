"""pymoo's mating on whole arrays: the same children from the same random numbers, in far less time for large litters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.crossover import Crossover
from pymoo.core.infill import InfillCriterion
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.selection import Selection
from pymoo.core.variable import get

_Array = NDArray[np.float64]


class ArrayMating(InfillCriterion):  # type: ignore[misc]
    """Breeds like pymoo's `Mating`, without an object for each parent and child between its steps.

    Args:
        selection: gives indices of parents.
        crossover, mutation: of levels; their results are whole numbers, by repair or by construction.
    """

    def __init__(self, selection: Selection, *, crossover: Crossover, mutation: Mutation, **parts: Any) -> None:
        super().__init__(**parts)
        self._selection, self._crossover, self._mutation = selection, crossover, mutation

    def litter(self, algorithm: Any, n: int) -> NDArray[np.int64]:
        """Levels of `n` children (n, n_choices), or of one more, of an algorithm's population; some may be known."""
        problem, rng = algorithm.problem, algorithm.random_state
        pairs = self._selection.do(
            problem, algorithm.pop, math.ceil(n / 2), n_parents=2, to_pop=False, random_state=rng, algorithm=algorithm
        )
        parents = np.swapaxes(algorithm.pop.get("X")[pairs], 0, 1).astype(np.float64)
        crossed = rng.random(len(pairs)) < get(self._crossover.prob, size=len(pairs))
        children = parents
        if crossed.any():
            children = np.where(crossed[:, None], self._crossover._do(problem, parents, random_state=rng), parents)
        children = _repaired(self._crossover, problem, children.reshape(-1, parents.shape[-1]))
        mutants = self._mutation._do(problem, children, random_state=rng)
        mutated = rng.random(len(children)) <= get(self._mutation.prob, size=len(children))
        return _repaired(self._mutation, problem, np.where(mutated[:, None], mutants, children)).astype(np.int64)

    def _do(
        self, problem: Any, pop: Any, n_offsprings: int, random_state: Any = None, algorithm: Any = None, **kwargs: Any
    ) -> Population:
        return Population.new("X", self.litter(algorithm, n_offsprings))


def tournament(pop: Any, pairs: NDArray[np.int64], algorithm: Any, **kwargs: Any) -> NDArray[np.int64]:
    """NSGA-II's binary tournament, the winners of pairs (n, 2) as (n, 1): pymoo's `binary_tournament`, of all pairs at once.

    The smaller violation wins; of two feasible rows the dominating one (or the one of lower rank, by the algorithm's
    ``tournament_type``), then the less crowded one, then a random one.
    """
    one, two = pairs.T
    violation = pop.get("CV")[:, 0]
    # If nothing is feasible, ranks are None, which becomes NaN: it neither wins nor loses.
    rank, crowding = (pop.get(name).astype(np.float64) for name in ("rank", "crowding"))
    if algorithm.tournament_type == "comp_by_rank_and_crowding":
        ahead = _lead(rank[one], rank[two])
    else:
        values = pop.get("F")
        ahead = (values[one] <= values[two]).all(axis=1) * 1 - (values[one] >= values[two]).all(axis=1)
    ahead = np.where(ahead == 0, _lead(-crowding[one], -crowding[two]), ahead)
    both_feasible = (violation[one] <= 0) & (violation[two] <= 0)
    ahead = np.where(both_feasible, ahead, _lead(violation[one], violation[two]))
    winners = np.where(ahead > 0, one, two)
    for tie in np.flatnonzero(ahead == 0):
        winners[tie] = algorithm.random_state.choice(pairs[tie])
    found: NDArray[np.int64] = winners[:, None]
    return found


def _lead(one: _Array, two: _Array) -> NDArray[np.int64]:
    """1 where the first is smaller, -1 where the second is, else 0."""
    return np.subtract(one < two, one > two, dtype=np.int64)


def _repaired(operator: Crossover | Mutation, problem: Any, levels: _Array) -> _Array:
    found: _Array = levels if operator.repair is None else operator.repair._do(problem, levels)
    return found
