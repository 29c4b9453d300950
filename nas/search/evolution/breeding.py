"""pymoo's evolutionary algorithms and operators, set up for spaces of levels, with mating on whole arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.base.genetic import GeneticAlgorithm
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.unsga3 import UNSGA3
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DefaultDuplicateElimination
from pymoo.core.infill import InfillCriterion
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.selection import Selection
from pymoo.core.termination import NoTermination
from pymoo.core.variable import get
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.util.reference_direction import UniformReferenceDirectionFactory, get_number_of_uniform_points

from nas.search.evolution.age import AgeSurvival
from nas.search.evolution.decomposition import DecomposedEvolution
from nas.search.problem.pareto import Array


class ArrayMating(InfillCriterion):  # type: ignore[misc]
    """Breeds like pymoo's `Mating`, without an object for each parent and child between its steps.

    Args:
        selection: Operator that selects indices of parents.
        crossover, mutation: Operators on levels; their results are whole numbers, by repair or by construction.
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
        selected, indices = np.unique(pairs, return_inverse=True)  # two of the population for one child
        levels = algorithm.pop[selected].get("X").astype(np.float64)
        parents = np.swapaxes(levels[indices.reshape(pairs.shape)], 0, 1)
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
    entrants, indices = np.unique(pairs, return_inverse=True)  # four of the population for one child
    pop = pop[entrants]
    first, second = indices.reshape(pairs.shape).T
    violation = pop.get("CV")[:, 0]
    # If nothing is feasible, ranks are None, which becomes NaN: it neither wins nor loses.
    rank, crowding = (pop.get(name).astype(np.float64) for name in ("rank", "crowding"))
    if algorithm.tournament_type == "comp_by_rank_and_crowding":
        ahead = _lead(rank[first], rank[second])
    else:
        values = pop.get("F")
        ahead = (values[first] <= values[second]).all(axis=1) * 1 - (values[first] >= values[second]).all(axis=1)
    ahead = np.where(ahead == 0, _lead(-crowding[first], -crowding[second]), ahead)
    both_feasible = (violation[first] <= 0) & (violation[second] <= 0)
    ahead = np.where(both_feasible, ahead, _lead(violation[first], violation[second]))
    winners = np.where(ahead > 0, pairs[:, 0], pairs[:, 1])
    for tie in np.flatnonzero(ahead == 0):
        winners[tie] = algorithm.random_state.choice(pairs[tie])
    return np.asarray(winners[:, None])


def _lead(first: Array, second: Array) -> NDArray[np.int64]:
    """1 where the first is smaller, -1 where the second is, else 0."""
    return np.subtract(first < second, first > second, dtype=np.int64)


def _repaired(operator: Crossover | Mutation, problem: Any, levels: Array) -> Array:
    return levels if operator.repair is None else np.asarray(operator.repair._do(problem, levels))


ETA = 3.0
"""Distribution index of both operators, from pymoo's documentation for integers: larger ones round to no change."""

Operators = Callable[[], dict[str, Any]]
Canonical = Callable[[NDArray[np.int64]], NDArray[np.int64]]
_Mate = Callable[[Selection], ArrayMating]
_TOURNAMENT = TournamentSelection(func_comp=tournament)


def integer_operators() -> dict[str, Any]:
    """Simulated binary crossover and polynomial mutation, rounded: children lie near their parents' levels."""
    operator = {"prob": 1.0, "eta": ETA, "vtype": float, "repair": RoundingRepair()}
    return {"crossover": SBX(**operator), "mutation": PM(**operator)}


def linas_operators() -> dict[str, Any]:
    """LINAS's: simulated binary crossover of 9 pairs in 10, polynomial mutation of 1 gene in 50, rounded."""
    parts = {"vtype": float, "repair": RoundingRepair()}
    return {"crossover": SBX(prob=0.9, eta=15.0, **parts), "mutation": PM(prob=1.0, prob_var=0.02, eta=20.0, **parts)}


def uniform_operators() -> dict[str, Any]:
    """Each gene from one parent or the other, then redrawn with probability 1/n: the order of levels has no effect."""
    return {"crossover": UniformCrossover(), "mutation": _Redraw()}


def evolve(
    levels: NDArray[np.int64],
    score: Callable[[NDArray[np.int64]], tuple[Array, Array]],
    n_objectives: int,
    *,
    operators: dict[str, Any],
    population: int,
    generations: int,
    seed: int,
    first: NDArray[np.int64] | None = None,
    canonical: Canonical | None = None,
) -> NDArray[np.int64]:
    """The last population of an NSGA-II, (at most `population`, n_choices).

    Args:
        levels: Number of options of each choice.
        score: Function that computes minimised values (n, n_objectives) and violations (n,) of rows of levels; called once for
            each generation.
        seed: A number from 0 to 2**32 - 1.
        first: Rows of levels from which it starts, any number; None for random ones.
        canonical: A map of rows; rows that it makes equal are duplicates.
    """
    sampling = IntegerRandomSampling() if first is None else first
    algorithm = _algorithm(levels, n_objectives, operators, population, seed, canonical, sampling)
    for _ in range(generations):
        bred = algorithm.ask()
        if bred is None:  # no new child can be bred
            break
        values, violations = score(bred.get("X").astype(np.int64))
        bred.set("F", values, "G", violations[:, None])
        algorithm.tell(infills=bred)
    return np.asarray(algorithm.pop.get("X").astype(np.int64))


def litters(
    levels: NDArray[np.int64],
    parents: tuple[NDArray[np.int64], Array, Array],
    *,
    operators: dict[str, Any],
    n: int,
    seed: int,
) -> Iterator[NDArray[np.int64]]:
    """Litters of `n` children or one more, (n, n_choices), of one population by NSGA-II's tournaments, without end.

    Args:
        levels: Number of options of each choice.
        parents: Rows of levels (p, n_choices), minimised values (p, m) and violations (p,).
        seed: A number from 0 to 2**32 - 1.
    """
    rows, values, violations = parents
    algorithm = _algorithm(levels, values.shape[1], operators, len(rows), seed, None, rows)
    algorithm.tell(infills=Population.new("X", rows, "F", values, "G", violations[:, None]))
    while True:
        yield algorithm.mating.litter(algorithm, n)


def _algorithm(
    levels: NDArray[np.int64],
    n_objectives: int,
    operators: dict[str, Any],
    population: int,
    seed: int,
    canonical: Canonical | None,
    sampling: Any,
) -> NSGA2:
    """NSGA-II, set up for levels."""
    n = len(levels)
    problem = Problem(n_var=n, n_obj=n_objectives, n_ieq_constr=1, xl=np.zeros(n), xu=levels - 1.0, vtype=int)
    rows = None if canonical is None else lambda pop: canonical(pop.get("X").astype(np.int64)).astype(np.float64)
    unique = DefaultDuplicateElimination(func=rows)
    mating = ArrayMating(_TOURNAMENT, **operators, eliminate_duplicates=unique)
    algorithm = NSGA2(pop_size=population, sampling=sampling, mating=mating, eliminate_duplicates=unique)
    return algorithm.setup(problem, termination=NoTermination(), seed=seed)


@dataclass(frozen=True)
class Method:
    """One way of evolving: `make` takes a mating, a size of the population and a number of objectives."""

    make: Callable[[_Mate, int, int], GeneticAlgorithm]
    operators: Operators = integer_operators


def directions(n_objectives: int, n: int) -> NDArray[np.float64]:
    """The largest even set of at most `n` weights (Das and Dennis 1998), (k, n_objectives); at least one an objective."""
    partitions = 1
    while n_objectives > 1 and get_number_of_uniform_points(partitions + 1, n_objectives) <= n:
        partitions += 1
    return np.asarray(UniformReferenceDirectionFactory(n_objectives, n_partitions=partitions).do())


def _nsga2(mate: _Mate, population: int, n_objectives: int) -> GeneticAlgorithm:
    return NSGA2(pop_size=population, mating=mate(_TOURNAMENT))


def _age_moea(mate: _Mate, population: int, n_objectives: int) -> GeneticAlgorithm:
    algorithm = GeneticAlgorithm(
        pop_size=population, survival=AgeSurvival(), advance_after_initial_infill=True, mating=mate(_TOURNAMENT)
    )
    algorithm.tournament_type = "comp_by_rank_and_crowding"
    return algorithm


def _u_nsga3(mate: _Mate, population: int, n_objectives: int) -> GeneticAlgorithm:
    weights = directions(n_objectives, population)
    mating = mate(TournamentSelection(func_comp=_by_niche))
    return UNSGA3(weights, pop_size=max(population, len(weights)), mating=mating)


def _moead(mate: _Mate, population: int, n_objectives: int) -> GeneticAlgorithm:
    return DecomposedEvolution(directions(n_objectives, population), mate)


# Evaluations to 99 % of the exact hypervolume on NAS-Bench-201 (CIFAR-100 accuracy against the latency on 1080ti_256, raspi4,
# titanx_32, 1080ti_1 and silver_4114; geometric mean of the medians of 5 seeds, 1,000 evaluations, batches of 10):
#                 population 20   30   50   with uniform operators, 30
#   nsga2                   275  299  321   (nsga2-uniform: 312, 323 and 414)
#   age-moea                225  254  334   310
#   u-nsga3                 284  305  408   428
#   moead                   338  476  474   535
POPULATION = 20
METHODS: Mapping[str, Method] = {
    "nsga2": Method(_nsga2),
    "nsga2-uniform": Method(_nsga2, uniform_operators),
    "age-moea": Method(_age_moea),
    "u-nsga3": Method(_u_nsga3),
    "moead": Method(_moead),
}


def _by_niche(
    pop: Any, pairs: NDArray[np.int64], random_state: np.random.Generator, **kwargs: Any
) -> NDArray[np.int64]:
    """U-NSGA-III's tournament (Seada and Deb 2014), winners (n, 1), by the algorithm's generator.

    pymoo's own uses a fresh generator if two violations are equal, so that it is not repeatable.
    """
    violation = pop.get("CV")[:, 0]
    winners = np.empty((len(pairs), 1), dtype=np.int64)
    for line, (a, b) in enumerate(pairs):
        key_a, key_b = (violation[a],), (violation[b],)
        if not any((*key_a, *key_b)) and pop[a].get("niche") == pop[b].get("niche"):
            key_a, key_b = (tuple(pop[i].get("rank", "dist_to_niche")) for i in (a, b))
        winners[line] = a if key_a < key_b else b if key_b < key_a else random_state.choice([a, b])
    return winners


class _Redraw(Mutation):  # type: ignore[misc]
    """Redraws each gene with probability 1/n."""

    def _do(self, problem: Any, X: NDArray[np.float64], random_state: Any = None, **kwargs: Any) -> NDArray[np.float64]:
        drawn = random_state.integers(0, problem.xu.astype(np.int64) + 1, size=X.shape)
        return np.where(random_state.random(X.shape) < 1.0 / problem.n_var, drawn, X)
