"""Evolutionary search: pymoo's NSGA-II through its ask and tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair

from nas.objectives import Evaluation, Objective, minimised
from nas.search.draws import draw_unknown
from supernets.space import INACTIVE, Architecture, SearchSpace

POPULATION = 30
ETA = 3.0
"""Distribution index of both operators, as pymoo's documentation proposes for integers: larger ones round to no change."""


class EvolutionSearch:
    """NSGA-II (Deb et al. 2002) with simulated binary crossover and polynomial mutation on rounded levels.

    Departures: an architecture that is known is never bred again; failed evaluations enter no population; after the
    first population every batch is a generation, whatever its size. The genes of inactive choices are inherited unseen, so that
    a layer which comes back has its parents' levels.

    Args:
        seed: at least 0. All randomness comes from it, none from numpy's global generator.
        population: at least 2; the first is what is told first (the smallest and the largest architecture) and random.

    Raises:
        ValueError: a population below 2.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int,
        population: int = POPULATION,
        generation: int = 10,
    ) -> None:
        if population < 2:
            raise ValueError(f"a population of {population} cannot breed; give at least 2")
        self._space, self._objectives, self._population = space, list(objectives), population
        self._rng = np.random.default_rng(seed)
        self._known: set[Architecture] = set()
        self._levels: dict[Architecture, NDArray[np.int64]] = {}  # as bred, inactive genes included
        self._told: list[tuple[Architecture, NDArray[np.float64]]] = []  # since the last generation
        self._algorithm = self._make_algorithm(seed)

    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        self._advance()
        asked: list[Architecture] = []
        while len(asked) < n and (bred := self._breed(n - len(asked))):
            self._known.update(bred)
            asked.extend(bred)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Takes figures into the next generation; those with a NaN or an infinity are only remembered as known."""
        for evaluation, row in zip(evaluations, minimised(evaluations, self._objectives), strict=True):
            self._known.add(evaluation.architecture)
            if np.isfinite(row).all():
                self._told.append((evaluation.architecture, row))

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """Empty: there are no models."""
        return {}

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        """Breeds again, and knows what was recorded in place of what it bred."""
        again = self.ask(len(asked))
        self._known.difference_update(again)
        self._known.update(asked)
        return again

    def _advance(self) -> None:
        """Survival among parents and what was told since, once there is a population to start from."""
        if len(self._told) < (1 if self._algorithm.is_initialized else self._population):
            return
        levels = np.array([self._levels_of(architecture) for architecture, _ in self._told])
        self._algorithm.tell(infills=Population.new("X", levels, "F", np.array([row for _, row in self._told])))
        self._told = []

    def _breed(self, n: int) -> list[Architecture]:
        """Up to `n` unknown architectures: children once there are parents; before, and where breeding fails, random."""
        if not self._algorithm.is_initialized:
            return draw_unknown(self._space, self._known, n, self._rng)
        self._algorithm.n_offsprings = n
        children = self._algorithm.mating.do(
            self._algorithm.problem,
            self._algorithm.pop,
            n,
            algorithm=self._algorithm,
            random_state=self._algorithm.random_state,
        )
        bred = []
        for levels in children.get("X"):
            bred.append(self._space.canonical(levels))
            self._levels[bred[-1]] = levels
        return bred or draw_unknown(self._space, self._known, n, self._rng)

    def _levels_of(self, architecture: Architecture) -> NDArray[np.int64]:
        """The levels that it was bred with; where it was not, inactive genes are random."""
        if architecture in self._levels:
            return self._levels[architecture]
        genes = np.array(architecture.genes, dtype=np.int64)
        return np.where(genes == INACTIVE, self._rng.integers(0, self._space.levels), genes)

    def _make_algorithm(self, seed: int) -> Any:
        operator = {"prob": 1.0, "eta": ETA, "vtype": float, "repair": RoundingRepair()}
        algorithm = NSGA2(
            pop_size=self._population,
            crossover=SBX(**operator),
            mutation=PM(**operator),
            eliminate_duplicates=_Unknown(self._space, self._known),
        )
        n_genes = len(self._space)
        problem = Problem(n_var=n_genes, n_obj=len(self._objectives), xl=np.zeros(n_genes), xu=self._space.levels - 1.0)
        return algorithm.setup(problem, termination=NoTermination(), seed=seed)


class _Unknown(DuplicateElimination):  # type: ignore[misc]
    """Drops children whose network is known already, or is bred twice."""

    def __init__(self, space: SearchSpace, known: set[Architecture]) -> None:
        super().__init__()
        self._space, self._known = space, known

    def _do(self, pop: Any, other: Any, is_duplicate: NDArray[np.bool_]) -> NDArray[np.bool_]:
        seen = set() if other is None else {self._space.canonical(levels) for levels in other.get("X")}
        for i, levels in enumerate(pop.get("X")):
            architecture = self._space.canonical(levels)
            is_duplicate[i] |= architecture in self._known or architecture in seen
            seen.add(architecture)
        return is_duplicate
