"""Makes search algorithms of their names: shipped ones, and those of plug-ins."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from nas.plugins import Kind, check, find, load, of_object
from nas.plugins.parts import require
from nas.search.algorithms import ALGORITHMS, load_part
from nas.search.base import SearchAlgorithm, SearchProblem
from nas.search.plugin import make_plugin
from nas.search.warm_start import WarmStarted, promising
from supernets.space import Architecture, SearchSpace


def models_from(
    name: str, space: SearchSpace, *, batch: int, known_architectures: Collection[Architecture] = (), n_prior: int = 0
) -> int | None:
    """The number of the first evaluation of the budget that models choose, if none before it fails or is skipped.

    None for an algorithm without models, and for those of plug-ins, of which it is not known.

    Args:
        name: Name of an algorithm.
        space: Space of the search.
        batch: Number of evaluations of one ask.
        known_architectures: See `SearchProblem`; they count as evaluations, and are not part of the budget.
        n_prior: Number of evaluations of the warm start.
    """
    if (entry := ALGORITHMS.get(name)) is None or not entry.initial:
        return None
    n_anchors = len({space.smallest, space.largest} - set(known_architectures))
    initial: int = load_part(entry.initial)(n_prior)
    lacking = initial - n_anchors - len(known_architectures)
    return n_anchors + batch * max(0, math.ceil(lacking / batch)) + 1


_OPTIONAL = ("features", "exact", "warm_start")
"""Attributes of a `SearchProblem` that a plug-in's class gets if its constructor has a parameter of that name."""


def make_algorithm(
    name: str,
    problem: SearchProblem,
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
    implementation: object = None,
) -> SearchAlgorithm:
    """A fresh algorithm; with a warm start, one that first asks for what other runs found good, after the problem's `first`.

    Args:
        name: Name of a shipped algorithm or a plug-in.
        problem: Input of the algorithm.
        settings: Settings of a plug-in's class.
        implementation: A class or an object in place of what the name refers to.

    Raises:
        UnknownNameError: There is none of this name.
        PluginError, JobError: The plug-in cannot be loaded, or not made with these settings.
        PartError: The optional part of the installation that it needs is missing.
    """
    ref = of_object(Kind.SEARCH, implementation) if implementation is not None else find(Kind.SEARCH, name, ALGORITHMS)
    if ref is None:
        entry = ALGORITHMS[name]
        if entry.part:
            require(entry.part, f"the algorithm {name}")
        algorithm = entry(problem)
    else:
        plugin = load(ref, SearchAlgorithm) if implementation is None else implementation
        if implementation is not None and (isinstance(implementation, type) or hasattr(implementation, "ask")):
            check(ref, implementation, SearchAlgorithm)
        values = {field.name: getattr(problem, field.name) for field in fields(problem)}
        algorithm = make_plugin(ref, plugin, values, optional=_OPTIONAL, settings=settings)
    known_architectures = set(problem.known_architectures)
    lacking = [evaluation for evaluation in problem.warm_start if evaluation.architecture not in known_architectures]
    first = [*problem.first, *promising(lacking, problem.objectives, problem.constraints)]
    return WarmStarted(algorithm, first) if first else algorithm
