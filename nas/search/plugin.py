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
    ref: PluginRef, made: Any, problem: Mapping[str, Any], *, optional: Sequence[str], settings: Mapping[str, Any]
) -> SearchAlgorithm:
    """An algorithm of a plug-in's class, or around an object that has the methods of one.

    Args:
        problem: the attributes of a `SearchProblem` by name; a class is made of the space, the objectives, ``seed``,
            ``constraints`` and the settings of the job.
        optional: further attributes, for a class whose constructor has a parameter of that name.
    """
    if isinstance(made, type) or not hasattr(made, "ask"):
        takes = inspect.signature(made).parameters
        fixed = {name: problem[name] for name in ("seed", "constraints", *(one for one in optional if one in takes))}
        space, objectives = problem["space"], problem["objectives"]
        made = construct(ref, made, space, objectives, settings=settings, key="search.settings", **fixed)
    return CheckedAlgorithm(ref, made, problem["space"])


class CheckedAlgorithm(SearchAlgorithm):
    """An algorithm whose answers are checked; what it raises names the plug-in."""

    def __init__(self, ref: PluginRef, inner: SearchAlgorithm, space: SearchSpace) -> None:
        self._ref, self._inner, self._space = ref, inner, space
        self._asked = {space.smallest, space.largest}

    def ask(self, n: int) -> list[Architecture]:
        asked = self._architectures("ask", lambda: self._inner.ask(n))
        if len(asked) > n:
            raise self._wrong("ask", f"expected at most {n} architectures, got {len(asked)}")
        if repeated := [a.key for i, a in enumerate(asked) if a in self._asked or a in asked[:i]]:
            raise self._wrong("ask", f"{repeated[0]} was asked for before; expected each architecture once")
        self._asked.update(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._asked.update(evaluation.architecture for evaluation in evaluations)
        with calling(self._ref, "tell"):
            self._inner.tell(evaluations)

    def correct(self, evaluations: Sequence[Evaluation]) -> None:
        with calling(self._ref, "correct"):
            self._inner.correct(evaluations)

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        self._asked.update(asked)
        return self._architectures("replay", lambda: self._inner.replay(asked))

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        with calling(self._ref, "fits"):
            found = self._inner.fits()
        if not isinstance(found, Mapping):
            raise self._wrong("fits", f"expected a mapping from objectives to models, got {type(found).__name__}")
        return found

    def _architectures(self, method: str, call: Callable[[], Any]) -> list[Architecture]:
        with calling(self._ref, method):
            found = call()
        if not isinstance(found, list | tuple) or not all(isinstance(one, Architecture) for one in found):
            kinds = (
                sorted({type(one).__name__ for one in found})
                if isinstance(found, list | tuple)
                else [type(found).__name__]
            )
            raise self._wrong(method, f"expected a list of Architecture, got {', '.join(kinds)}")
        for architecture in found:
            try:
                self._space.check(architecture)
            except SpaceError as error:
                raise self._wrong(method, f"{architecture.key} is not in the space: {error}") from None
        return list(found)

    def _wrong(self, method: str, fault: str) -> PluginError:
        return PluginError(f"{self._ref}: {method}: {fault}")
