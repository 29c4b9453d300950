"""The algorithm of a search: a name, `module:Class`, a class, or an object."""

from __future__ import annotations

from nas.plugins import Kind, of_object
from nas.search.base import SearchAlgorithm
from nas.search.registry import SearchProblem, make_algorithm

AlgorithmLike = str | type[SearchAlgorithm] | SearchAlgorithm


def named(algorithm: AlgorithmLike) -> str:
    """The name by which a store knows the algorithm."""
    return algorithm if isinstance(algorithm, str) else of_object(Kind.SEARCH, algorithm).target


def made(algorithm: AlgorithmLike, problem: SearchProblem) -> SearchAlgorithm:
    """The algorithm of a problem; an object is used as it is, but for checks of its answers.

    Raises:
        UnknownNameError: no algorithm has this name.
        PluginError: the class cannot be imported, or it or the object lacks a method or takes other arguments.
    """
    if isinstance(algorithm, str):
        return make_algorithm(algorithm, problem)
    return make_algorithm(named(algorithm), problem, given=algorithm)
