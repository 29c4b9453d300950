"""Training strategies of plug-ins: their plans are checked, and errors name the plug-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nas.errors import PluginError
from nas.plugins import PluginRef, calling, construct, load
from supernets.errors import SupernetError
from supernets.sharing.base import BatchLoss, Family, LearningStrategy, Pass, Phase, ScheduledStrategy, TrainingStrategy
from supernets.training.strategies.single_phase import Teacher


def plugin_strategy(
    ref: PluginRef, family: Family, *, distill: Teacher, settings: Mapping[str, Any], passed_object: object
) -> TrainingStrategy:
    """The strategy of a plug-in's class, made of the family, ``distill`` and the settings of the job.

    Raises:
        PluginError, JobError: the class cannot be loaded, or not made with these settings; or it learns a network.
    """
    strategy = load(ref, TrainingStrategy) if passed_object is None else passed_object
    strategy = construct(ref, strategy, family, settings=settings, key="training.settings", distill=distill)
    if isinstance(strategy, LearningStrategy):  # what it learns is not summed over workers, nor is its network searched
        raise PluginError(
            f"{ref}: has optimizer, penalty and chosen_architecture, by which a strategy learns a network beside the "
            "weights; jobs expect phases and plan, and at where these change: remove the three, or take the strategy "
            "differentiable",
            code="plugin.contract",
        )
    return _CheckedStrategy(ref, strategy, family)


@dataclass(frozen=True)
class _CheckedStrategy:
    """A strategy whose answers are checked."""

    ref: PluginRef
    inner: TrainingStrategy
    family: Family

    def phases(self, epochs: int) -> Sequence[Phase]:
        phases = self._list("phases", Phase, lambda: self.inner.phases(epochs))
        if (total := sum(phase.epochs for phase in phases)) != epochs:
            raise PluginError(f"{self.ref}: phases: their epochs add up to {total}; expected {epochs}")
        return phases

    def at(self, progress: float) -> _CheckedStrategy:
        """See `ScheduledStrategy`; this one where the plug-in has no schedule."""
        if not isinstance(self.inner, ScheduledStrategy):
            return self
        with calling(self.ref, "at", but=SupernetError):
            return replace(self, inner=self.inner.at(progress))

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        passes = self._list("plan", Pass, lambda: self.inner.plan(phase, rng, batch_loss))
        for step in passes:
            try:
                self.family.space.check(step.architecture)
            except SupernetError as error:
                raise PluginError(f"{self.ref}: plan: {step.architecture} is not in the space: {error}") from None
        return passes

    def _list(self, method: str, kind: type, call: Callable[[], Any]) -> list[Any]:
        with calling(self.ref, method, but=SupernetError):  # e.g. too few epochs, as the shipped strategies raise it
            returned = call()
        if (
            not isinstance(returned, list | tuple)
            or not returned
            or not all(isinstance(entry, kind) for entry in returned)
        ):
            raise PluginError(
                f"{self.ref}: {method} returned {returned!r:.80}; expected a list of {kind.__name__}, at least one"
            )
        return list(returned)
