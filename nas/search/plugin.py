"""Search algorithms of plug-ins: their calls are checked, and errors name the plug-in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nas.errors import PluginError
from nas.plugins import PluginRef, calling, construct
from nas.search.base import SearchAlgorithm
from nas.search.problem.objectives import Evaluation
from supernets.errors import SpaceError
from supernets.space import Architecture, SearchSpace


def make_plugin(
    ref: PluginRef,
    implementation: Any,
    problem: Mapping[str, Any],
    *,
    optional: Sequence[str],
    settings: Mapping[str, Any],
) -> SearchAlgorithm:
    """An algorithm of a plug-in's class, or around an object that has the methods of one.

    Args:
        ref: The plug-in, which errors name.
        implementation: The class, a function that makes an object, or an object.
        problem: The attributes of a `SearchProblem` by name; a class is made of the space, the objectives, ``seed``,
            ``constraints`` and the settings of the job.
        optional: Further attributes, for a class whose constructor has a parameter of that name.
    """
    if isinstance(implementation, type) or not hasattr(implementation, "ask"):
        parameters = inspect.signature(implementation).parameters
        names = ["seed", "constraints", *(attribute for attribute in optional if attribute in parameters)]
        fixed = {name: problem[name] for name in names}
        space, objectives = problem["space"], problem["objectives"]
        implementation = construct(
            ref, implementation, space, objectives, settings=settings, key="search.settings", **fixed
        )
    return CheckedAlgorithm(ref, implementation, problem["space"])


class CheckedAlgorithm(SearchAlgorithm):
    """An algorithm whose answers are checked; what it raises names the plug-in."""

    def __init__(self, ref: PluginRef, inner: SearchAlgorithm, space: SearchSpace) -> None:
        self._ref, self._inner, self._space = ref, inner, space
        self._proposed = {space.smallest, space.largest}

    def ask(self, n: int) -> list[Architecture]:
        proposed = self._architectures("ask", lambda: self._inner.ask(n))
        if len(proposed) > n:
            raise self._wrong("ask", f"expected at most {n} architectures, got {len(proposed)}")
        if repeated := [a.key for i, a in enumerate(proposed) if a in self._proposed or a in proposed[:i]]:
            raise self._wrong("ask", f"{repeated[0]} was asked for before; expected each architecture once")
        self._proposed.update(proposed)
        return proposed

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._proposed.update(evaluation.architecture for evaluation in evaluations)
        with calling(self._ref, "tell"):
            self._inner.tell(evaluations)

    def correct(self, evaluations: Sequence[Evaluation]) -> None:
        with calling(self._ref, "correct"):
            self._inner.correct(evaluations)

    def replay(self, recorded: Sequence[Architecture]) -> list[Architecture]:
        self._proposed.update(recorded)
        return self._architectures("replay", lambda: self._inner.replay(recorded))

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        with calling(self._ref, "fits"):
            models = self._inner.fits()
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
