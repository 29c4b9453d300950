"""The algorithm of a search: a name, `module:Class`, a class, or an object."""

from __future__ import annotations

from nas.plugins import Kind, construct, find, load, of_object
from nas.plugins.loading import check
from nas.search.base import SearchAlgorithm
from nas.search.registry import ALGORITHMS, SearchProblem, make_algorithm

AlgorithmLike = str | type[SearchAlgorithm] | SearchAlgorithm


def named(algorithm: AlgorithmLike) -> str:
    """The name by which a store knows the algorithm."""
    return algorithm if isinstance(algorithm, str) else of_object(Kind.SEARCH, algorithm).target


def made(algorithm: AlgorithmLike, problem: SearchProblem) -> SearchAlgorithm:
    """The algorithm of a problem; an object is used as it is.

    Raises:
        UnknownNameError: no algorithm has this name.
        PluginError: the class cannot be imported, or it or the object lacks a method or takes other arguments.
    """
    if isinstance(algorithm, str):
        ref = find(Kind.SEARCH, algorithm, ALGORITHMS)
        if ref is None:
            return make_algorithm(algorithm, problem)
        return _constructed(load(ref, SearchAlgorithm), problem)
    check(of_object(Kind.SEARCH, algorithm), algorithm, SearchAlgorithm)
    return _constructed(algorithm, problem) if isinstance(algorithm, type) else algorithm


def _constructed(cls: type[SearchAlgorithm], problem: SearchProblem) -> SearchAlgorithm:
    ref = of_object(Kind.SEARCH, cls)
    found: SearchAlgorithm = construct(
        ref, cls, problem.space, problem.objectives,
        settings={}, key="algorithm", seed=problem.seed, constraints=problem.constraints,
    )  # fmt: skip
    return found
