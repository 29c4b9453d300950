"""Evolutionary search: pymoo's algorithms through ask and tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from nas.problem.objectives import Constraint, Evaluation, Objective
from nas.search.evolution.breeding import METHODS
from nas.search.evolution.mating import ArrayMating
from nas.search.history import History
from nas.search.sampling import draw_unknown
from supernets.space import INACTIVE, Architecture, SearchSpace

_BARREN = 20
"""After so many litters without an unknown child, chance takes over."""
_LEAST_SHARE = 0.05
"""The least share of unknown children that a litter is made for: it is at most 20 times what is wanted."""


class EvolutionSearch:
    """One of `breeding.METHODS`: a population, its survival, and the operators that breed children from it.

    Departures from all of them: an architecture that is known is never bred again; failed evaluations enter no
    population; after the first population every batch is a generation, whatever its size. The genes of inactive choices are
    inherited unseen, so that a layer which comes back has its parents' levels.

    Args:
        seed: at least 0. All randomness comes from it, none from numpy's global generator.
        method: a name of `breeding.METHODS`.
        constraints: feasible networks survive before infeasible ones, those by their violation.
        population: at least 2; the first is what is told first (the smallest and the largest architecture) and random.
            None takes the method's own.

    Raises:
        ValueError: a population below 2.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int,
        method: str = "nsga2",
        constraints: Sequence[Constraint] = (),
        population: int | None = None,
    ) -> None:
        self._population = METHODS[method].population if population is None else population
        if self._population < 2:
            raise ValueError(f"a population of {population} cannot breed; give at least 2")
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._history = History(objectives, constraints)
        self._levels: dict[Architecture, NDArray[np.int64]] = {}  # as bred, inactive genes included
        self._told: list[Architecture] = []  # since the last generation
        self._scale = np.empty((2, 0))
        self._unknown_share = 1.0  # of the last litter
        self._networks: dict[bytes, Architecture] = {}  # by levels
        self._algorithm = self._make_algorithm(method, len(objectives), bool(constraints), seed)

    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        self._advance()
        asked = self._breed(n) if self._algorithm.is_initialized else []
        asked += draw_unknown(self._space, self._history.known, n - len(asked), self._rng)
        self._history.known.update(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Takes figures into the next generation; those with a NaN or an infinity are only remembered as known."""
        self._told += self._history.add(evaluations)

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """Empty: there are no models."""
        return {}

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        """Breeds again, and knows what was recorded in place of what it bred."""
        again = self.ask(len(asked))
        self._history.known.difference_update(again)
        self._history.known.update(asked)
        return again

    def _advance(self) -> None:
        """Survival among parents and what was told since, once there is a population to start from."""
        if len(self._told) < (1 if self._algorithm.is_initialized else self._population):
            return
        levels = np.array([self._levels_of(architecture) for architecture in self._told])
        values, violations = self._history.figures(self._told)
        if not self._algorithm.is_initialized:
            self._scale = np.stack([values.min(axis=0), np.ptp(values, axis=0)])
        values = (values - self._scale[0]) / np.where(self._scale[1] > 0, self._scale[1], 1.0)
        told = Population.new("X", levels, "F", values, "G", violations[:, None])
        with warnings.catch_warnings():  # U-NSGA-III switches the process's warnings off
            self._algorithm.tell(infills=told)
        self._told = []

    def _breed(self, n: int) -> list[Architecture]:
        """Up to `n` unknown children; fewer once litter after litter is known.

        A litter is as large as the litters before it let expect `n` unknown ones among it: in a small space most children
        are known in the end, and to breed one or two that are missing takes as long as to breed many.
        """
        bred: list[Architecture] = []
        barren = 0
        while len(bred) < n and barren < _BARREN:
            size = math.ceil((n - len(bred)) / self._unknown_share)
            litter = self._algorithm.mating.litter(self._algorithm, size)
            unknown: dict[Architecture, NDArray[np.int64]] = {}
            for levels in litter:
                architecture = self._network(levels)
                if architecture not in self._history.known:
                    unknown.setdefault(architecture, levels)
            self._unknown_share = max(min(len(unknown) / size, 1.0), _LEAST_SHARE)
            found = dict(islice(unknown.items(), n - len(bred)))
            self._history.known.update(found)
            self._levels.update(found)
            bred += found
            barren = 0 if found else barren + 1
        return bred

    def _network(self, levels: NDArray[np.int64]) -> Architecture:
        """The network of a row of levels, (n_choices,), made once: in a small space most children were bred before."""
        raw = levels.tobytes()
        if raw not in self._networks:
            self._networks[raw] = self._space.canonical(levels)
        return self._networks[raw]

    def _levels_of(self, architecture: Architecture) -> NDArray[np.int64]:
        """The levels that it was bred with; where it was not, inactive genes are random."""
        if architecture in self._levels:
            return self._levels[architecture]
        genes = np.array(architecture.genes, dtype=np.int64)
        return np.where(genes == INACTIVE, self._rng.integers(0, self._space.levels), genes)

    def _make_algorithm(self, method: str, n_objectives: int, constrained: bool, seed: int) -> Any:
        mate = partial(ArrayMating, **METHODS[method].operators())
        algorithm = METHODS[method].make(mate, self._population, n_objectives)
        n_genes = len(self._space)
        problem = Problem(
            n_var=n_genes, n_obj=n_objectives, n_ieq_constr=int(constrained), xl=np.zeros(n_genes),
            xu=self._space.levels - 1.0,
        )  # fmt: skip
        return algorithm.setup(problem, termination=NoTermination(), seed=seed)
