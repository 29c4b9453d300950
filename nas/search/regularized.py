"""Regularized evolution: an ageing population, tournaments, and mutation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.problem.objectives import Constraint, Evaluation, Objective
from nas.search.genes import GeneRows
from nas.search.history import History
from nas.search.ranking import survivors
from nas.search.sampling import draw_unknown
from supernets.space import Architecture, SearchSpace

POPULATION = 50
SAMPLE = 20
"""The paper's 100 and 25 need 339 evaluations to 99 % of the hypervolume, as in `breeding.METHODS`; 50 and 20 need 296, 50 and
10 318, 30 and 10 378."""
_TRIES = 50
"""Tournaments for each network wanted before chance steps in: so many known children mean a used-up neighbourhood."""


class RegularizedEvolution:
    """Regularized evolution (Real, Aggarwal, Huang, Le 2019, arXiv 1802.01548).

    The population is the last networks told; the best of a random sample of it gives one child with one gene changed, and
    whoever is oldest leaves. An ask is a function of the seed and of what is known.

    Departures: the paper has one objective; here the best of a sample is the one of least violation, then of the first
    non-dominated front of the population, then the least crowded (NSGA-II's order). A child that is known is bred again.
    A batch is bred from one population.

    Args:
        seed: at least 0.
        population: networks that are alive, at least 1; the first are random.
        sample: networks drawn, with replacement, for each tournament, at least 1.

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
        self._space, self._seed, self._population, self._sample = space, seed, population, sample
        self._genes = GeneRows(space)
        self._history = History(objectives, constraints)

    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        rng = np.random.default_rng([self._seed, len(self._history.known)])
        asked = self._children(n, rng) if len(self._history) >= self._population else []
        asked += draw_unknown(self._space, {*self._history.known, *asked}, n - len(asked), rng)
        self._history.known.update(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Adds to the population; those with a NaN or an infinity are only remembered as known."""
        self._history.add(evaluations)

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """Empty: there are no models."""
        return {}

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        """Returns `asked` and knows it."""
        self._history.known.update(asked)
        return list(asked)

    def _children(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Up to `n` different unknown children."""
        alive = self._history.architectures[-self._population :]
        values, violations = self._history.figures(alive)
        ranked = self._genes.of([alive[i] for i in survivors(values, len(alive), violations)])
        found: dict[Architecture, None] = {}
        for _ in range(_TRIES):
            if len(found) == n:
                break
            winners = rng.integers(len(ranked), size=(n - len(found), self._sample)).min(axis=1)
            children = self._genes.architectures(self._genes.mutants(ranked[winners], rng))
            found.update((child, None) for child in children if child not in self._history.known)
        return list(found)
