"""Makes search algorithms of their names: shipped ones, and those of plug-ins, whose calls are checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nas.errors import NasError, PluginError
from nas.plugins import Kind, PluginRef, calling, check, construct, find, load, of_object
from nas.plugins.parts import require
from nas.search.algorithms import ALGORITHMS, load_part, predictor_fault
from nas.search.base import SearchAlgorithm, SearchProblem, WrappedAlgorithm, asked, replayed
from nas.search.budgets.solved_start import SolvedStart
from nas.search.named_predictors import find_predictor, plugin_of
from nas.search.problem.objectives import Evaluation
from nas.search.warm_start import WarmStarted, promising
from supernets.errors import SpaceError
from supernets.space import Architecture, SearchSpace


def models_from(
    name: str,
    space: SearchSpace,
    *,
    batch: int,
    predictor: str = "",
    known_architectures: Collection[Architecture] = (),
    n_prior: int = 0,
) -> int | None:
    """The number of the first evaluation of the budget that models choose, if none before it fails or is skipped.

    None for an algorithm without models, and for those of plug-ins, of which it is not known.

    Args:
        name: Name of an algorithm.
        space: Space of the search.
        batch: Number of evaluations of one ask.
        predictor: Name of the predictor that the algorithm is to use; "" for none.
        known_architectures: See `SearchProblem`; they count as evaluations, and are not part of the budget.
        n_prior: Number of evaluations of the warm start.
    """
    entry = ALGORITHMS.get(name)
    if entry is not None and predictor:
        entry = entry.predicted
    if entry is None or not entry.initial:
        return None
    n_anchors = len({space.smallest, space.largest} - set(known_architectures))
    initial: int = load_part(entry.initial)(n_prior)
    lacking = initial - n_anchors - len(known_architectures)
    return n_anchors + batch * max(0, math.ceil(lacking / batch)) + 1


def check_predictor(algorithm: str, predictor: str | type) -> None:
    """Checks that an algorithm takes a predictor, and that there is such a one.

    Raises:
        NasError: The algorithm takes none (code ``algorithm.takes-no-predictor``).
        UnknownNameError, PluginError: There is no predictor of this name, or several have it.
    """
    if fault := predictor_fault(algorithm):
        raise NasError(f"predictor: {fault}", code="algorithm.takes-no-predictor", parameter="predictor")
    plugin_of(predictor)


_OPTIONAL = ("features", "exact", "warm_start")
"""Attributes of a `SearchProblem` that a plug-in's class gets if its constructor has a parameter of that name."""


def make_algorithm(
    name: str,
    problem: SearchProblem,
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
    implementation: object = None,
    predictor: str | type = "",
) -> SearchAlgorithm:
    """A fresh algorithm; with a warm start, one that first asks for what other runs found good, after the problem's `first`.

    Args:
        name: Name of a shipped algorithm or a plug-in.
        problem: Input of the algorithm.
        settings: Settings of a plug-in's class.
        implementation: A class or an object in place of what the name refers to.
        predictor: Name or class of the predictor that a shipped algorithm is to use; "" for none.

    Raises:
        UnknownNameError: There is none of this name, or no predictor of that name.
        NasError: The algorithm takes no predictor (code ``algorithm.takes-no-predictor``).
        PluginError, JobError: The plug-in cannot be loaded, or not made with these settings.
        PartError: The optional part of the installation that it needs is missing.
    """
    if predictor:
        check_predictor(name or of_object(Kind.SEARCH, implementation).name, predictor)
    ref = of_object(Kind.SEARCH, implementation) if implementation is not None else find(Kind.SEARCH, name, ALGORITHMS)
    if ref is None:
        entry = ALGORITHMS[name]
        if entry.part:
            require(entry.part, f"the algorithm {name}")
        if predictor and entry.predicted is not None:
            algorithm = entry.predicted(problem, predictor=find_predictor(predictor))
        else:
            algorithm = entry(problem)
    else:
        plugin = load(ref, SearchAlgorithm) if implementation is None else implementation
        if implementation is not None and (isinstance(implementation, type) or hasattr(implementation, "ask")):
            check(ref, implementation, SearchAlgorithm)
        algorithm = _plugin_algorithm(ref, plugin, problem, settings)
    known_architectures = set(problem.known_architectures)
    lacking = [evaluation for evaluation in problem.warm_start if evaluation.architecture not in known_architectures]
    if problem.n_reduced:
        algorithm = SolvedStart(algorithm, problem)
    first = [*problem.first, *promising(lacking, problem.objectives, problem.constraints)]
    return WarmStarted(algorithm, first) if first else algorithm


def _plugin_algorithm(
    ref: PluginRef, implementation: Any, problem: SearchProblem, settings: Mapping[str, Any]
) -> SearchAlgorithm:
    """An algorithm of a plug-in's class, or of a function that makes an object, or around an object.

    A class is made of the space, the objectives, ``seed``, ``constraints`` and the settings of the job, and of `_OPTIONAL`
    attributes for which its constructor has a parameter.
    """
    if isinstance(implementation, type) or not hasattr(implementation, "ask"):
        parameters = inspect.signature(implementation).parameters
        names = ["seed", "constraints", *(attribute for attribute in _OPTIONAL if attribute in parameters)]
        fixed = {name: getattr(problem, name) for name in names}
        implementation = construct(
            ref, implementation, problem.space, problem.objectives, settings=settings, key="search.settings", **fixed
        )
    return CheckedAlgorithm(ref, implementation, problem.space)


class CheckedAlgorithm(WrappedAlgorithm):
    """An algorithm whose answers are checked; what it raises names the plug-in."""

    def __init__(self, ref: PluginRef, inner: SearchAlgorithm, space: SearchSpace) -> None:
        self._ref, self.inner, self._space = ref, inner, space
        self._proposed = {space.smallest, space.largest}

    def ask(self, n: int, *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        self._proposed.update(pending)
        proposed = self._architectures("ask", lambda: asked(self.inner, n, pending))
        if len(proposed) > n:
            raise self._wrong("ask", f"expected at most {n} architectures, got {len(proposed)}")
        if repeated := [a.key for i, a in enumerate(proposed) if a in self._proposed or a in proposed[:i]]:
            raise self._wrong("ask", f"{repeated[0]} was asked for before; expected each architecture once")
        self._proposed.update(proposed)
        return proposed

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._proposed.update(evaluation.architecture for evaluation in evaluations)
        with calling(self._ref, "tell"):
            self.inner.tell(evaluations)

    def correct(self, evaluations: Sequence[Evaluation]) -> None:
        with calling(self._ref, "correct"):
            self.inner.correct(evaluations)

    def replay(self, recorded: Sequence[Architecture], *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        self._proposed.update([*pending, *recorded])
        return self._architectures("replay", lambda: replayed(self.inner, recorded, pending))

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        with calling(self._ref, "fits"):
            models = self.inner.fits()
        if not isinstance(models, Mapping):
            raise self._wrong("fits", f"expected a mapping from objectives to models, got {type(models).__name__}")
        return models

    def _architectures(self, method: str, call: Callable[[], Any]) -> list[Architecture]:
        with calling(self._ref, method):
            answer = call()
        if not isinstance(answer, list | tuple) or not all(isinstance(element, Architecture) for element in answer):
            kinds = (
                sorted({type(element).__name__ for element in answer})
                if isinstance(answer, list | tuple)
                else [type(answer).__name__]
            )
            raise self._wrong(method, f"expected a list of Architecture, got {', '.join(kinds)}")
        for architecture in answer:
            try:
                self._space.check(architecture)
            except SpaceError as error:
                raise self._wrong(method, f"{architecture.key} is not in the space: {error}") from None
        return list(answer)

    def _wrong(self, method: str, fault: str) -> PluginError:
        return PluginError(f"{self._ref}: {method}: {fault}")
