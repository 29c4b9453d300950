"""NSGA-II."""

from __future__ import annotations

import numpy as np
import pytest

from nas.objectives import minimised
from nas.pareto import hypervolume
from nas.search.base import SearchAlgorithm
from nas.search.evolution import EvolutionSearch
from nas.search.random import RandomSearch
from supernets.space import SearchSpace
from tests.contracts.search import OBJECTIVES, SearchContract, anchors, asks_of, evaluate, space_of


class TestEvolutionSearch(SearchContract):
    @staticmethod
    def make(space: SearchSpace, seed: int) -> SearchAlgorithm:
        return EvolutionSearch(space, OBJECTIVES, seed=seed, population=12)


def test_a_population_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        EvolutionSearch(space_of(2), OBJECTIVES, seed=0, population=1)


def test_the_global_generator_is_left_alone() -> None:
    space = space_of(6)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    asks_of(EvolutionSearch(space, OBJECTIVES, seed=0, population=12), space, [10] * 4)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002


def test_it_finds_more_volume_than_chance() -> None:
    space, reference = space_of(8), np.array([0.0, 15.0])

    def volume(algorithm: SearchAlgorithm) -> float:
        asked = [a for ask in asks_of(algorithm, space, [10] * 15) for a in ask]
        return hypervolume(minimised(evaluate(space, [*anchors(space), *asked]), OBJECTIVES), reference)

    for seed in range(3):
        assert volume(EvolutionSearch(space, OBJECTIVES, seed=seed)) > volume(RandomSearch(space, seed=seed))
