"""Regularized evolution: an ageing population, tournaments, and mutation alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.history import ProposingSearch
from nas.search.problem.objectives import Constraint, Objective
from nas.search.ranking import survivors
from supernets.space import Architecture, SearchSpace

POPULATION = 50
SAMPLE = 20
"""The paper's 100 and 25 need 339 evaluations to 99 % of the hypervolume, as in `breeding.METHODS`; 50 and 20 need 296, 50 and
10 318, 30 and 10 378."""
_TRIES = 50
"""Tournaments for each child before random sampling takes over: if all were known, the neighbourhood is used up."""


class RegularizedEvolution(ProposingSearch):
    """Regularized evolution (Real, Aggarwal, Huang, Le 2019, arXiv 1802.01548).

    The population is the last architectures evaluated; the best of a random sample of it gives one child with one gene
    changed, and the oldest member leaves.

    Departures: the paper has one objective; here the best of a sample is the one of least violation, then of the first
    non-dominated front of the population, then the least crowded (NSGA-II's order). A child that is known is bred again.
    A batch is bred from one population.

    Args:
        seed: A number of at least 0.
        population: Size of the population, at least 1; the first members are random.
        sample: Number of members drawn, with replacement, for each tournament, at least 1.

    Raises:
        ValueError: a population or a sample below 1.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int,
        constraints: Sequence[Constraint] = (),
        population: int = POPULATION,
        sample: int = SAMPLE,
    ) -> None:
        if min(population, sample) < 1:
            raise ValueError(f"a population of {population} and a sample of {sample}; both must be at least 1")
        super().__init__(space, objectives, seed=seed, constraints=constraints)
        self._population, self._sample = population, sample

    def _propose(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        if len(self._history) < self._population:
            return []
        alive = self._history.architectures[-self._population :]
        values, violations = self._history.values(alive)
        ranked = self._genes.rows([alive[i] for i in survivors(values, len(alive), violations)])
        unknown: dict[Architecture, None] = {}
        for _ in range(_TRIES):
            if len(unknown) == n:
                break
            winners = rng.integers(len(ranked), size=(n - len(unknown), self._sample)).min(axis=1)
            children = self._genes.architectures(self._genes.mutants(ranked[winners], rng))
            unknown.update((child, None) for child in children if child not in self._history.known)
        return list(unknown)
