"""Tasks of plug-ins: what they return is checked, and errors name the plug-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.errors import PluginError
from nas.plugins import PluginRef, calling, construct
from supernets.data import DataSet, Part
from supernets.errors import SupernetError
from supernets.tasks import Score, Task
from supernets.tasks.base import Reduction
from supernets.tasks.divergence import Divergence

_T = TypeVar("_T")


def plugin_task(ref: PluginRef, made: Any) -> Task:
    """The task of a plug-in's class, whose answers are checked.

    Raises:
        PluginError: it is not made without arguments.
    """
    return cast(Task, _Checked(ref, construct(ref, made, settings={}, key="task")))


@dataclass(frozen=True)
class _Checked:
    """A task as `supernets.tasks.Task`; what the plug-in raises or returns wrongly is a `PluginError`."""

    ref: PluginRef
    inner: Task

    def __getattr__(self, name: str) -> Any:
        """What is not checked below, as the task's name and metrics."""
        if name == "inner" or name.startswith("__"):  # of an object that is being copied, and has nothing yet
            raise AttributeError(name)
        return getattr(self.inner, name)

    def examples(self, metric: str, part: Part) -> Part:
        return self._made("examples", lambda: self.inner.examples(metric, part), Part)

    def scored(self, network: nn.Module) -> nn.Module:
        return self._made("scored", lambda: self.inner.scored(network), nn.Module)

    def served(self, network: nn.Module) -> Mapping[str, bytes]:
        return self._made("served", lambda: self.inner.served(network), Mapping)  # type: ignore[type-abstract]

    def prepared(self, data: DataSet) -> DataSet:
        return self._made("prepared", lambda: self.inner.prepared(data), DataSet)

    def for_data(self, data: DataSet) -> _Checked:
        return replace(self, inner=self._made("for_data", lambda: self.inner.for_data(data), type(self.inner)))

    def n_outputs(self, data: DataSet) -> int:
        found = self._made("n_outputs", lambda: self.inner.n_outputs(data), int)
        if found < 1:
            raise self._wrong("n_outputs", str(found), "at least 1")
        return found

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._tensor("losses", lambda: self.inner.losses(outputs, targets), (len(outputs),))

    def loss(self, outputs: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        if type(self.inner).loss is Task.loss:  # it stands on the losses, whose shape it does not show
            losses = self.losses(outputs, targets)
            return losses.mean() if reduction == "mean" else losses.sum()
        return self._tensor("loss", lambda: self.inner.loss(outputs, targets, reduction=reduction), ())

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        return self._tensor("distance", lambda: self.inner.distance(outputs, teacher, divergence), ())

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        found = self._made("score", lambda: self.inner.score(metric, outputs, targets), Score)
        # NaN makes one network fail, not a training.
        if not (isinstance(found.value, Real) and isinstance(found.error, Real)):
            came = f"a {metric} of {found.value!r:.40} with the error {found.error!r:.40}"
            raise self._wrong("score", came, "numbers")
        if np.shape(found.examples) != (len(outputs),):
            raise self._wrong("score", f"examples of the shape {np.shape(found.examples)}", f"({len(outputs)},)")
        return found

    def alike(self, one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.bool_]:
        found = self._made("alike", lambda: self.inner.alike(one, two), np.ndarray)
        if found.shape != (len(one),):
            raise self._wrong("alike", f"the shape {found.shape}", f"({len(one)},)")
        return found

    def described(self, data: DataSet) -> Mapping[str, Any]:
        return self._made("described", lambda: self.inner.described(data), Mapping)  # type: ignore[type-abstract]

    def _tensor(self, method: str, call: Callable[[], Tensor], shape: tuple[int, ...]) -> Tensor:
        found = self._made(method, call, Tensor)
        if found.shape != shape:
            raise self._wrong(method, f"the shape {tuple(found.shape)}", str(shape))
        return found

    def _made(self, method: str, call: Callable[[], Any], kind: type[_T]) -> _T:
        with calling(self.ref, method, but=SupernetError):  # unfit labels, as tasks report them
            found = call()
        if not isinstance(found, kind) or isinstance(found, bool):
            raise self._wrong(method, type(found).__name__, kind.__name__)
        return found

    def _wrong(self, method: str, came: str, expected: str) -> PluginError:
        return PluginError(f"{self.ref}: {method} returned {came}; expected {expected}")
