"""Evolutionary search: pymoo's algorithms through ask and tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from nas.search.base import AsynchronousAlgorithm
from nas.search.evolution.breeding import METHODS, POPULATION, ArrayMating
from nas.search.genes import GeneRows
from nas.search.history import History, draw_unknown
from nas.search.problem.objectives import Constraint, Evaluation, Objective
from supernets.space import Architecture, SearchSpace

_MAX_LITTERS_WITHOUT_CHILD = 20
"""Litters in a row without an unknown child after which architectures are drawn at random."""
_MIN_UNKNOWN_SHARE = 0.05
"""Least share of unknown children that the size of a litter assumes: at most 20 times as many are bred as are needed."""


class EvolutionSearch(AsynchronousAlgorithm):
    """One of `breeding.METHODS`: a population, its survival, and the operators that breed children from it.

    Departures from all of them: an architecture that is known is never bred again; failed evaluations enter no
    population; after the first population every batch is a generation, of any size: in an asynchronous search, the
    evaluations that arrived since the last ask, which makes it steady-state evolution. The genes of inactive choices are
    inherited, so that a layer which becomes active again has its parents' levels.

    Args:
        seed: A number of at least 0. All randomness comes from it, none from numpy's global generator.
        method: A name of `breeding.METHODS`.
        constraints: Constraints; feasible architectures survive before infeasible ones, which are ordered by violation.
        population: Size of the population, at least 2; the first one is the first evaluations (the smallest and the largest
            architecture) and random ones.

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
        population: int = POPULATION,
    ) -> None:
        self._population = population
        if population < 2:
            raise ValueError(f"a population of {population} cannot breed; give at least 2")
        self._genes = GeneRows(space)
        self._rng = np.random.default_rng(seed)
        self._history = History(objectives, constraints)
        self._levels: dict[Architecture, NDArray[np.int64]] = {}  # as bred, inactive genes included
        self._pending: list[Architecture] = []  # evaluated since the last generation
        self._scale = np.empty((2, 0))
        self._unknown_share = 1.0  # of the last litter
        self._algorithm = self._make_algorithm(method, len(objectives), bool(constraints), seed)

    def ask(self, n: int, *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        self._history.known.update(pending)
        self._advance()
        proposed = self._breed(n) if self._algorithm.is_initialized else []
        proposed += draw_unknown(self._genes, self._history.known, n - len(proposed), self._rng)
        self._history.known.update(proposed)
        return proposed

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Adds evaluations to the next generation; those with a NaN or an infinity are only known."""
        self._pending += self._history.add(evaluations)

    def replay(self, recorded: Sequence[Architecture], *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Breeds again; the recorded architectures become known in place of those bred."""
        again = self.ask(len(recorded), pending=pending)
        self._history.replace(again, recorded)
        return again

    def _advance(self) -> None:
        """Survival among parents and later evaluations, once there are enough for a population."""
        if len(self._pending) < (1 if self._algorithm.is_initialized else self._population):
            return
        levels = np.array([self._levels_of(architecture) for architecture in self._pending])
        values, violations = self._history.values(self._pending)
        if not self._algorithm.is_initialized:
            self._scale = np.stack([values.min(axis=0), np.ptp(values, axis=0)])
        values = (values - self._scale[0]) / np.where(self._scale[1] > 0, self._scale[1], 1.0)
        evaluated = Population.new("X", levels, "F", values, "G", violations[:, None])
        with warnings.catch_warnings():  # U-NSGA-III switches the process's warnings off
            self._algorithm.tell(infills=evaluated)
        self._pending = []

    def _breed(self, n: int) -> list[Architecture]:
        """Up to `n` unknown children; fewer once litter after litter is known.

        The size of a litter follows from the share of unknown children in the last one: in a small space most children
        are known in the end, and breeding one or two that are missing takes as long as breeding many.
        """
        bred: list[Architecture] = []
        barren = 0
        while len(bred) < n and barren < _MAX_LITTERS_WITHOUT_CHILD:
            size = math.ceil((n - len(bred)) / self._unknown_share)
            unknown: dict[Architecture, NDArray[np.int64]] = {}
            litter = self._algorithm.mating.litter(self._algorithm, size)
            children = self._genes.architectures(self._genes.canonical(litter))
            for levels, architecture in zip(litter, children, strict=True):
                if architecture not in self._history.known:
                    unknown.setdefault(architecture, levels)
            self._unknown_share = max(min(len(unknown) / size, 1.0), _MIN_UNKNOWN_SHARE)
            new_children = dict(islice(unknown.items(), n - len(bred)))
            self._history.known.update(new_children)
            self._levels.update(new_children)
            bred += new_children
            barren = 0 if new_children else barren + 1
        return bred

    def _levels_of(self, architecture: Architecture) -> NDArray[np.int64]:
        """The levels that it was bred with; for one that was not bred, inactive genes are random."""
        if architecture in self._levels:
            return self._levels[architecture]
        return np.asarray(self._genes.filled(self._genes.rows([architecture]), self._rng)[0])

    def _make_algorithm(self, method: str, n_objectives: int, constrained: bool, seed: int) -> Any:
        mate = partial(ArrayMating, **METHODS[method].operators())
        algorithm = METHODS[method].make(mate, self._population, n_objectives)
        n, top = len(self._genes.levels), self._genes.levels - 1.0
        problem = Problem(n_var=n, n_obj=n_objectives, n_ieq_constr=int(constrained), xl=np.zeros(n), xu=top)
        algorithm = algorithm.setup(problem, termination=NoTermination(), seed=seed)
        algorithm._set_optimum = lambda: None  # nothing here reads the optimum, which takes as long as survival
        return algorithm
