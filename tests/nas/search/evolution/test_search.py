"""Evolutionary search, by every method."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nas.plugins.testing.search import (
    OBJECTIVES,
    PARAMETERS,
    ConstraintContract,
    SearchContract,
    anchors,
    asks_of,
    evaluate,
    space_of,
)
from nas.search.base import SearchAlgorithm
from nas.search.evolution.breeding import METHODS, ArrayMating, directions
from nas.search.evolution.search import EvolutionSearch
from nas.search.problem.objectives import Constraint, Evaluation, Goal, Objective, minimised
from nas.search.problem.pareto import hypervolume
from nas.search.random import RandomSearch
from supernets.space import SearchSpace


class TestNSGA2(SearchContract, ConstraintContract):
    method = "nsga2"

    @classmethod
    def make(cls, space: SearchSpace, seed: int, constraints: Sequence[Constraint] = ()) -> SearchAlgorithm:
        return EvolutionSearch(space, OBJECTIVES, seed=seed, method=cls.method, constraints=constraints, population=12)


class TestNSGA2Uniform(TestNSGA2):
    method = "nsga2-uniform"


class TestAgeMOEA(TestNSGA2):
    method = "age-moea"


class TestUNSGA3(TestNSGA2):
    method = "u-nsga3"


class TestMOEAD(TestNSGA2):
    method = "moead"


def volume(space: SearchSpace, algorithm: SearchAlgorithm, objectives: Sequence[Objective]) -> float:
    """Of what is found in 152 evaluations, with a reference point behind all."""
    asked = [a for ask in asks_of(algorithm, space, [10] * 15) for a in ask]
    reference = np.array({2: [0.0, 15.0], 3: [0.0, 15.0, 40.0]}[len(objectives)])
    return hypervolume(minimised(evaluate(space, [*anchors(space), *asked]), objectives), reference)


@pytest.mark.parametrize("objectives", [OBJECTIVES, (*OBJECTIVES, PARAMETERS)], ids=["two", "three"])
@pytest.mark.parametrize("method", METHODS)
def test_it_finds_more_volume_than_chance(method: str, objectives: Sequence[Objective]) -> None:
    space = space_of(8)
    found, by_chance = 0.0, 0.0
    for seed in range(3):
        found += volume(space, EvolutionSearch(space, objectives, seed=seed, method=method), objectives)
        by_chance += volume(space, RandomSearch(space, seed=seed), objectives)
    assert found > by_chance


@pytest.mark.parametrize("method", METHODS)
def test_one_and_four_objectives_are_searched_too(method: str) -> None:
    space, four = space_of(6), [*OBJECTIVES, PARAMETERS, Objective("accuracy", "share", Goal.MINIMIZE)]
    for objectives in (OBJECTIVES[:1], four):
        asks = asks_of(EvolutionSearch(space, objectives, seed=1, method=method), space, [10] * 8)
        assert [len(ask) for ask in asks] == [10] * 8


@pytest.mark.parametrize("method", METHODS)
def test_equal_values_stop_no_search(method: str) -> None:
    space = space_of(6)
    algorithm = EvolutionSearch(space, OBJECTIVES, seed=1, method=method)
    measurements = evaluate(space, [space.smallest])[0].measurements
    for _ in range(6):
        asked = algorithm.ask(10)
        assert len(asked) == 10
        algorithm.tell([Evaluation(a, measurements) for a in asked])


@pytest.mark.parametrize("method", METHODS)
def test_neither_the_global_generator_nor_the_warnings_filter_is_touched(method: str) -> None:
    space = space_of(6)
    before, filters = np.random.get_state()[1].tolist(), list(warnings.filters)  # type: ignore[index]  # noqa: NPY002
    asks_of(EvolutionSearch(space, OBJECTIVES, seed=0, method=method, population=12), space, [10] * 4)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002
    assert list(warnings.filters) == filters


def test_litters_are_as_large_as_known_children_among_them_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(4)
    litters: list[int] = []
    bred = ArrayMating.litter

    def counted(mating: ArrayMating, algorithm: Any, n: int) -> Any:
        litters.append(n)
        return bred(mating, algorithm, n)

    monkeypatch.setattr(ArrayMating, "litter", counted)
    n_asks = int(0.4 * space.size) // 8
    asks = asks_of(EvolutionSearch(space, OBJECTIVES, seed=2, population=12), space, [8] * n_asks)
    assert [len(ask) for ask in asks] == [8] * n_asks
    assert max(litters) > 8  # to breed what is missing, pass after pass, takes many: nearly all of that is known
    assert len(litters) < 5 * n_asks


def test_a_population_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        EvolutionSearch(space_of(2), OBJECTIVES, seed=0, population=1)


@pytest.mark.parametrize(
    ("n_objectives", "n", "expected"), [(1, 30, 1), (2, 30, 30), (3, 30, 28), (4, 30, 20), (4, 2, 4)]
)
def test_directions_are_even_and_as_many_as_fit(n_objectives: int, n: int, expected: int) -> None:
    found = directions(n_objectives, n)
    assert found.shape == (expected, n_objectives)
    assert np.allclose(found.sum(axis=1), 1.0)
    assert len(np.unique(found.round(9), axis=0)) == expected
