"""The class of a job's task and its metrics; a task of the package is not loaded for its metrics (no torch)."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from nas.config import SearchJob
from nas.plugins import Kind, find, load
from nas.problem.objectives import Goal, Objective
from nas.problem.tasks import SHIPPED, TaskMetrics

_CONTRACT = "supernets.tasks:Task"
_CLASSES = {
    "classification": "supernets.tasks.classification:Classification",
    "regression": "supernets.tasks.regression:Regression",
    "multi-label": "supernets.tasks.multi_label:MultiLabel",
}


def task_class(name: str) -> Any:
    """The class of a task: a shipped one, or a plug-in's.

    Raises:
        UnknownNameError, PluginError: there is no such plug-in, it cannot be loaded, or it is no task.
    """
    ref = find(Kind.TASKS, name, SHIPPED)
    return resolve_name(_CLASSES[name]) if ref is None else load(ref, resolve_name(_CONTRACT))


def metrics_of_task(config: SearchJob) -> TaskMetrics:
    """The name and the metrics of a job's task; raises as `task_class`."""
    if config.task in SHIPPED:
        return SHIPPED[config.task]
    metrics = task_class(config.task).metrics
    goals = {True: Goal.MAXIMIZE, False: Goal.MINIMIZE}
    return TaskMetrics(
        config.task, tuple(Objective(m.name, m.unit, goals[bool(m.maximize)], scored=True) for m in metrics)
    )
