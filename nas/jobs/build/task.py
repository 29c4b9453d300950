"""The task of a job, which training, scoring and exports use; what that of a plug-in returns is checked, and errors name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.errors import JobError, PluginError
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import SearchJob
from nas.plugins import PluginRef, calling, construct
from nas.search.problem.tasks import AGREEMENT, IMITATION, LANGUAGE
from supernets.data import DataSet, ImageFormat, Part
from supernets.errors import DataError, SupernetError
from supernets.experts.routing_metrics import ExpertCache
from supernets.tasks import Score, Task
from supernets.tasks.base import Reduction
from supernets.tasks.divergence import Divergence

_T = TypeVar("_T")


def expert_cache(config: SearchJob) -> ExpertCache | None:
    """The cache of experts that a job's language models are served with; None where all are in memory."""
    serving = config.serving
    return ExpertCache(serving.expert_cache, serving.expert_cache_mib) if serving.caches_experts else None


def task_for(job: ResolvedJob, data: DataSet) -> tuple[Task, DataSet]:
    """A job's task, fitted to its data, and the data as the task prepares them.

    Raises:
        JobError: the data have labels of another kind.
        UnknownNameError, PluginError: there is no such task, or its code raises or returns what no task does.
    """
    config, source, ref = job.config, job.source, job.plugin("task")
    options: dict[str, Any] = {"cache": expert_cache(config)} if config.task == LANGUAGE else {}
    if config.training.class_weights is not None:
        options["class_weights"] = config.training.class_weights
    if config.task == IMITATION:
        options["of_classes"] = AGREEMENT in (*config.objectives, *config.constraints)
    task: Task = job.task_class(**options) if ref is None else plugin_task(ref, job.task_class)
    data = task.prepared(data)
    if data.targets != task.targets:
        raise JobError(
            f"{source}: task: {config.task} needs data whose labels are {task.targets}, and those of data.name: "
            f"{data.name} are {data.targets}; take another data set or another task",
            code="job.unfit-data",
        )
    augment = config.training.augment
    if task.spatial and (augment.shift or augment.flip):
        raise JobError(
            f"{source}: training.augment: the labels of {config.task} belong to pixels, which shifted or mirrored images "
            "would leave behind; remove it",
            code="job.conflict",
        )
    if not isinstance(data.format, ImageFormat) and (augment.shift or augment.flip):
        raise JobError(
            f"{source}: training.augment: shifts and mirrors images, and data.name: {data.name} is a data set of "
            f"{data.format.noun}s; remove it",
            code="job.conflict",
        )
    names = {*config.objectives, *config.constraints}  # `job.metrics` need the profiles, which a trained run may lack
    used = [metric for metric in job.task.metrics if metric.name in names]
    for metric in dict.fromkeys([*used, job.task.scored(used)]):
        if (metric_problem := task.metric_problem(metric.name, data)) is not None:
            raise JobError(f"{source}: {metric.name} {metric_problem}", code="job.unfit-data")
    try:
        return task.for_data(data), data
    except DataError as error:
        raise DataError(f"{source}: task: {error}", code=error.code) from None


def plugin_task(ref: PluginRef, task_class: Any) -> Task:
    """The task of a plug-in's class, whose answers are checked.

    Raises:
        PluginError: it is not made without arguments.
    """
    return cast(Task, _CheckedTask(ref, construct(ref, task_class, settings={}, key="task")))


@dataclass(frozen=True)
class _CheckedTask:
    """A task as `supernets.tasks.Task`; what the plug-in raises or returns wrongly is a `PluginError`."""

    ref: PluginRef
    inner: Task

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute that is not checked below, such as the task's name and metrics."""
        if name == "inner" or name.startswith("__"):  # of an object that is being copied, and has nothing yet
            raise AttributeError(name)
        return getattr(self.inner, name)

    def examples(self, metric: str, part: Part) -> Part:
        return self._call("examples", lambda: self.inner.examples(metric, part), Part)

    def scored(self, network: nn.Module) -> nn.Module:
        return self._call("scored", lambda: self.inner.scored(network), nn.Module)

    def served(self, network: nn.Module) -> Mapping[str, bytes]:
        return self._call("served", lambda: self.inner.served(network), Mapping)  # type: ignore[type-abstract]

    def prepared(self, data: DataSet) -> DataSet:
        return self._call("prepared", lambda: self.inner.prepared(data), DataSet)

    def for_data(self, data: DataSet) -> _CheckedTask:
        return replace(self, inner=self._call("for_data", lambda: self.inner.for_data(data), type(self.inner)))

    def n_outputs(self, data: DataSet) -> int:
        n_outputs = self._call("n_outputs", lambda: self.inner.n_outputs(data), int)
        if n_outputs < 1:
            raise self._wrong("n_outputs", str(n_outputs), "at least 1")
        return n_outputs

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
        score = self._call("score", lambda: self.inner.score(metric, outputs, targets), Score)
        # NaN makes one network fail, not a training.
        if not (isinstance(score.value, Real) and isinstance(score.error, Real)):
            came = f"a {metric} of {score.value!r:.40} with the error {score.error!r:.40}"
            raise self._wrong("score", came, "numbers")
        if np.shape(score.examples) != (len(outputs),):
            raise self._wrong("score", f"examples of the shape {np.shape(score.examples)}", f"({len(outputs)},)")
        return score

    def alike(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        equal = self._call("alike", lambda: self.inner.alike(first, second), np.ndarray)
        if equal.shape != (len(first),):
            raise self._wrong("alike", f"the shape {equal.shape}", f"({len(first)},)")
        return equal

    def described(self, data: DataSet) -> Mapping[str, Any]:
        return self._call("described", lambda: self.inner.described(data), Mapping)  # type: ignore[type-abstract]

    def _tensor(self, method: str, call: Callable[[], Tensor], shape: tuple[int, ...]) -> Tensor:
        tensor = self._call(method, call, Tensor)
        if tensor.shape != shape:
            raise self._wrong(method, f"the shape {tuple(tensor.shape)}", str(shape))
        return tensor

    def _call(self, method: str, call: Callable[[], Any], kind: type[_T]) -> _T:
        with calling(self.ref, method, but=SupernetError):  # unfit labels, as tasks report them
            returned = call()
        if not isinstance(returned, kind) or isinstance(returned, bool):
            raise self._wrong(method, type(returned).__name__, kind.__name__)
        return returned

    def _wrong(self, method: str, came: str, expected: str) -> PluginError:
        return PluginError(f"{self.ref}: {method} returned {came}; expected {expected}")
