"""Pareto local search."""

from __future__ import annotations

from collections.abc import Sequence

from nas.plugins.testing.search import (
    OBJECTIVES,
    ConstraintContract,
    SearchContract,
    anchors,
    asks_of,
    evaluate,
    space_of,
)
from nas.search.base import SearchAlgorithm
from nas.search.local import LocalSearch
from nas.search.problem.objectives import Constraint, minimised
from nas.search.problem.pareto import non_dominated
from supernets.space import SearchSpace
from tests.nas.search.test_regularized_evolution import apart


class TestLocalSearch(SearchContract, ConstraintContract):
    seeds = range(10, 16)  # one of them finds none, another 71

    @staticmethod
    def make(space: SearchSpace, seed: int, constraints: Sequence[Constraint] = ()) -> SearchAlgorithm:
        return LocalSearch(space, OBJECTIVES, seed=seed, constraints=constraints)


def test_what_it_asks_for_lies_one_gene_from_the_front() -> None:
    space = space_of(6)
    algorithm = LocalSearch(space, OBJECTIVES, seed=1, initial=12)
    told = [*anchors(space), *(a for ask in asks_of(algorithm, space, [10]) for a in ask)]
    for _ in range(10):
        values = minimised(evaluate(space, told), OBJECTIVES)
        front = [a for a, keep in zip(told, non_dominated(values), strict=True) if keep]
        asked = algorithm.ask(5)
        assert all(min(apart(child, member) for member in front) <= 1 for child in asked)
        algorithm.tell(evaluate(space, asked))
        told += asked
