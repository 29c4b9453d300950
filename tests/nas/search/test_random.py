"""Random search."""

from __future__ import annotations

from nas.plugins.testing.search import SearchContract
from nas.search.base import SearchAlgorithm
from nas.search.random import RandomSearch
from supernets.space import SearchSpace


class TestRandomSearch(SearchContract):
    @staticmethod
    def make(space: SearchSpace, seed: int) -> SearchAlgorithm:
        return RandomSearch(space, seed=seed)
