"""Regularized evolution."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nas.plugins.testing.search import OBJECTIVES, ConstraintContract, SearchContract, asks_of, evaluate, space_of
from nas.search.base import SearchAlgorithm
from nas.search.problem.objectives import Constraint
from nas.search.regularized_evolution import RegularizedEvolution
from supernets.space import INACTIVE, Architecture, SearchSpace


class TestRegularizedEvolution(SearchContract, ConstraintContract):
    @staticmethod
    def make(space: SearchSpace, seed: int, constraints: Sequence[Constraint] = ()) -> SearchAlgorithm:
        return RegularizedEvolution(space, OBJECTIVES, seed=seed, constraints=constraints, population=20, sample=5)


def apart(one: Architecture, other: Architecture) -> int:
    """In how many genes that are active in both two networks differ."""
    pairs = zip(one.genes, other.genes, strict=True)
    return sum(a != b for a, b in pairs if INACTIVE not in (a, b))


def test_children_differ_from_someone_alive_in_one_gene_and_the_old_have_no_children() -> None:
    space = space_of(6)
    algorithm = RegularizedEvolution(space, OBJECTIVES, seed=1, population=6, sample=2)
    told = [a for ask in asks_of(algorithm, space, [10, 6]) for a in ask]
    for _ in range(5):
        asked = algorithm.ask(6)
        assert all(min(apart(child, parent) for parent in told[-6:]) <= 1 for child in asked)
        algorithm.tell(evaluate(space, asked))
        told += asked


@pytest.mark.parametrize("numbers", [{"population": 0}, {"sample": 0}])
def test_no_population_and_no_sample_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RegularizedEvolution(space_of(2), OBJECTIVES, seed=0, **numbers)
