"""Mating on arrays, held against pymoo's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pymoo.algorithms.base.genetic import GeneticAlgorithm
from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
from pymoo.core.mating import Mating
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.selection import Selection
from pymoo.core.termination import NoTermination
from pymoo.operators.selection.tournament import TournamentSelection

from nas.search.evolution.age import AgeSurvival
from nas.search.evolution.breeding import (
    ArrayMating,
    Operators,
    integer_operators,
    linas_operators,
    tournament,
    uniform_operators,
)

LEVELS = np.array([4, 3, 1, 2, 6, 5])  # one choice has a single option
N_TOLD = 24


def by_dominance(mating: Any) -> GeneticAlgorithm:
    return NSGA2(pop_size=N_TOLD, mating=mating)


def by_rank(mating: Any) -> GeneticAlgorithm:
    made = GeneticAlgorithm(
        pop_size=N_TOLD, survival=AgeSurvival(), advance_after_initial_infill=True, mating=mating
    )  # fmt: skip
    made.tournament_type = "comp_by_rank_and_crowding"
    return made


def started(make: Callable[[Any], GeneticAlgorithm], mating: Any, violations: str) -> GeneticAlgorithm:
    """An algorithm with its first population; many of its values are equal."""
    problem = Problem(n_var=len(LEVELS), n_obj=2, n_ieq_constr=1, xl=np.zeros(len(LEVELS)), xu=LEVELS - 1.0)
    algorithm = make(mating).setup(problem, termination=NoTermination(), seed=3)
    rng = np.random.default_rng(0)
    levels = rng.integers(0, LEVELS, size=(N_TOLD, len(LEVELS)))
    values = np.column_stack([levels[:, 0], -levels[:, 4]]).astype(float)
    broken = {
        "none": np.zeros(N_TOLD),
        "some": rng.integers(0, 3, N_TOLD) * 1.0,
        "all": rng.integers(1, 3, N_TOLD) * 1.0,
    }
    algorithm.tell(infills=Population.new("X", levels, "F", values, "G", broken[violations][:, None]))
    return algorithm


@pytest.mark.parametrize("violations", ["none", "some", "all"])
@pytest.mark.parametrize("make", [by_dominance, by_rank])
@pytest.mark.parametrize("operators", [integer_operators, linas_operators, uniform_operators])
def test_children_are_those_of_pymoo(
    operators: Operators, make: Callable[[Any], GeneticAlgorithm], violations: str
) -> None:
    theirs = Mating(TournamentSelection(func_comp=binary_tournament), **operators())
    ours = ArrayMating(TournamentSelection(func_comp=tournament), **operators())
    their_algorithm, our_algorithm = started(make, theirs, violations), started(make, ours, violations)
    for n in (10, 7, 64):  # the draws go on from each litter to the next
        expected = theirs.do(
            their_algorithm.problem, their_algorithm.pop, n, n_max_iterations=1, algorithm=their_algorithm,
            random_state=their_algorithm.random_state,
        )  # fmt: skip
        found = ours.litter(our_algorithm, n)
        assert len(found) == n + n % 2
        assert found.dtype == np.int64
        assert np.array_equal(found[:n], expected.get("X"))


def test_pymoo_breeds_whole_generations_by_it() -> None:
    ours: Selection = TournamentSelection(func_comp=tournament)
    algorithm = started(by_dominance, ArrayMating(ours, **integer_operators()), "some")
    bred = algorithm.ask()
    assert len(bred) == N_TOLD
    assert ((bred.get("X") >= 0) & (bred.get("X") < LEVELS)).all()
