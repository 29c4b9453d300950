"""A search finds the same networks however its space lists the genes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.plugins.testing.search import OBJECTIVES, asks_of, space_of
from nas.search.algorithms import ALGORITHMS
from nas.search.base import SearchAlgorithm, SearchProblem
from nas.search.genes import GeneRows
from nas.search.guided.candidates import Effort
from nas.search.guided.search import GuidedSearch
from supernets.space import SearchSpace

QUICK = Effort(population=20, generations=4, neighbours=60, random=30, relatives=40)


def listed_otherwise(space: SearchSpace, seed: int) -> SearchSpace:
    """The same choices in a random order, but for the depth, which the others require."""
    first, *rest = space.choices
    return SearchSpace([first, *(rest[i] for i in np.random.default_rng(seed).permutation(len(rest)))])


def networks(make: Callable[[SearchSpace], SearchAlgorithm], space: SearchSpace) -> list[list[dict[str, object]]]:
    """The options by choice of what is asked for, in all batches."""
    return [[dict(space.values(a)) for a in ask] for ask in asks_of(make(space), space, [12, 5, 10])]


def guided(space: SearchSpace) -> SearchAlgorithm:
    return GuidedSearch(space, OBJECTIVES, seed=1, initial=12, effort=QUICK)


def test_guided_search_asks_for_the_same_networks() -> None:
    space = space_of(5)
    assert networks(guided, listed_otherwise(space, 0)) == networks(guided, space)


@pytest.mark.parametrize(
    "name", ["nsga2", "nsga2-uniform", "u-nsga3", "regularized-evolution", "local-search", "random"]
)
def test_other_searches_ask_for_the_same_networks(name: str) -> None:
    def make(space: SearchSpace) -> SearchAlgorithm:
        return ALGORITHMS[name](SearchProblem(space, OBJECTIVES, 1))

    space = space_of(6)
    assert networks(make, listed_otherwise(space, 0)) == networks(make, space)


@given(st.integers(0, 1000), st.integers(0, 1000))
@settings(max_examples=30)
def test_columns_have_one_order(order: int, seed: int) -> None:
    space = space_of(11)  # layer10 comes after layer9
    other = listed_otherwise(space, order)
    one, two = GeneRows(space), GeneRows(other)
    assert one.space == two.space
    assert [c.name for c in one.space.choices if c.name.endswith("width")] == [f"layer{i}.width" for i in range(11)]

    def values(of: SearchSpace, genes: GeneRows) -> Sequence[object]:
        return [of.values(a) for a in genes.architectures(genes.random(5, np.random.default_rng(seed)))]

    assert values(space, one) == values(other, two)
    rows = two.random(5, np.random.default_rng(seed))
    assert (two.rows(two.architectures(rows)) == rows).all()
