"""LINAS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

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
from nas.search.evolution.breeding import linas_operators
from nas.search.linas import GENERATIONS, LINAS, PER_LOOP
from nas.search.problem.objectives import Constraint, minimised
from nas.search.problem.pareto import hypervolume
from nas.search.random import RandomSearch
from supernets.space import SearchSpace


class TestLINAS(SearchContract, ConstraintContract):
    full = False
    batches = (10, 8, 1, 12, 10)
    constrained_evaluations = 60

    @staticmethod
    def make(space: SearchSpace, seed: int, constraints: Sequence[Constraint] = ()) -> SearchAlgorithm:
        return LINAS(space, OBJECTIVES, seed=seed, constraints=constraints, per_loop=20, generations=15)


def test_the_numbers_are_the_published_ones() -> None:
    crossover, mutation = linas_operators().values()
    assert (PER_LOOP, GENERATIONS) == (50, 400)
    assert (crossover.prob.value, crossover.eta.value) == (0.9, 15.0)
    assert (mutation.prob_var.value, mutation.eta.value) == (0.02, 20.0)


def test_small_asks_are_served_from_one_loop() -> None:
    space = space_of(8)
    one = LINAS(space, OBJECTIVES, seed=1, per_loop=20, generations=15)
    asks_of(one, space, [18])
    many = LINAS(space, OBJECTIVES, seed=1, per_loop=20, generations=15)
    asks_of(many, space, [18])
    whole = one.ask(20)
    parts: list[str] = []
    while len(parts) < len(whole):
        asked = many.ask(3)
        many.tell(evaluate(space, asked))
        parts += [a.key for a in asked]
    assert parts == [a.key for a in whole]


def test_it_finds_more_volume_than_chance() -> None:
    space, reference = space_of(8), np.array([0.0, 15.0])

    def volume(algorithm: SearchAlgorithm) -> float:
        algorithm.tell(evaluate(space, anchors(space)))
        told = anchors(space)
        while len(told) < 60:
            asked = algorithm.ask(10)
            algorithm.tell(evaluate(space, asked))
            told += asked
        return hypervolume(minimised(evaluate(space, told), OBJECTIVES), reference)

    assert volume(LINAS(space, OBJECTIVES, seed=0, per_loop=20, generations=30)) > volume(RandomSearch(space, seed=0))


def test_loops_too_small_to_choose_by_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        LINAS(space_of(2), OBJECTIVES, seed=0, per_loop=9)
