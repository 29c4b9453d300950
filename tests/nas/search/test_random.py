"""Random search."""

from __future__ import annotations

from nas.search.base import SearchAlgorithm
from nas.search.random import RandomSearch
from nas.testing.search import SearchContract
from supernets.space import SearchSpace


class TestRandomSearch(SearchContract):
    @staticmethod
    def make(space: SearchSpace, seed: int) -> SearchAlgorithm:
        return RandomSearch(space, seed=seed)
