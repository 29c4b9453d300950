"""The registry of search algorithms."""

from __future__ import annotations

import pytest

from nas.plugins.testing.search import NARROW, OBJECTIVES, anchors, evaluate, space_of
from nas.search.algorithms import ALGORITHMS
from nas.search.base import SearchProblem
from nas.search.registry import make_algorithm
from tests.errors import raises


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_name_makes_an_algorithm_that_asks(name: str) -> None:
    space = space_of(6)
    algorithm = make_algorithm(name, SearchProblem(space, OBJECTIVES, 1, NARROW))
    algorithm.tell(evaluate(space, anchors(space)))
    assert len(algorithm.ask(3)) == 3


def test_what_is_to_come_first_is_asked_for_first() -> None:
    space = space_of(6)
    first = space.canonical([1] * len(space))
    algorithm = make_algorithm("random", SearchProblem(space, OBJECTIVES, 1, first=[space.largest, first]))
    algorithm.tell(evaluate(space, anchors(space)))
    asked = algorithm.ask(3)
    assert asked[0] == first
    assert len({*asked, space.largest}) == 4


def test_an_unknown_name_is_rejected_with_the_known_ones() -> None:
    with raises("algorithm.unknown", "'nsga2'", "random"):
        make_algorithm("nsga", SearchProblem(space_of(2), OBJECTIVES, 1))
