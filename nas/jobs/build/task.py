"""The task of a job: its class, its metrics, and the object that training, scoring and exports use."""

from __future__ import annotations

from nas.errors import JobError
from nas.jobs.build.plugin_task import plugin_task
from nas.jobs.build.task_metrics import task_class
from nas.jobs.schema import SearchJob
from nas.plugins import Kind, find
from nas.search.problem.tasks import LANGUAGE, SHIPPED
from supernets.data import DataSet, ImageFormat
from supernets.errors import DataError
from supernets.experts.routing_metrics import ExpertCache
from supernets.tasks import Task


def expert_cache(config: SearchJob) -> ExpertCache | None:
    """The cache of experts that a job's language models are served with; None where all are in memory."""
    serving = config.serving
    return ExpertCache(serving.expert_cache, serving.expert_cache_mib) if serving.caches_experts else None


def task_for(config: SearchJob, data: DataSet, *, source: str) -> tuple[Task, DataSet]:
    """A job's task, fitted to its data, and the data as the task prepares them.

    Raises:
        JobError: the data have labels of another kind.
        UnknownNameError, PluginError: there is no such task, or its code raises or returns what no task does.
    """
    task_type, ref = task_class(config.task), find(Kind.TASKS, config.task, SHIPPED)
    options = {"cache": expert_cache(config)} if config.task == LANGUAGE else {}
    task: Task = task_type(**options) if ref is None else plugin_task(ref, task_type)
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
    try:
        return task.for_data(data), data
    except DataError as error:
        raise DataError(f"{source}: task: {error}", code=error.code) from None
