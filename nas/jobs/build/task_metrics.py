"""The class of a job's task and its metrics; a task of the package is not loaded for its metrics (no torch)."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from nas.errors import PluginError, quoted
from nas.jobs.schema import SearchJob
from nas.jobs.schema.written_metrics import METRIC
from nas.plugins import Kind, find, load
from nas.search.problem.objectives import Goal, Objective, is_shipped_metric
from nas.search.problem.tasks import CHOICES, ROUTING, SHIPPED, TaskMetrics

_CONTRACT, _METRIC = "supernets.tasks:Task", "supernets.tasks:Metric"
_CLASSES = {
    "classification": "supernets.tasks.classification:Classification",
    "regression": "supernets.tasks.regression:Regression",
    "language-modelling": "supernets.tasks.language_modelling:LanguageModelling",
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
    """The name and the metrics of a job's task, those that its data allow; raises as `task_class`."""
    if (task := SHIPPED.get(config.task)) is not None:
        has_choices, used_names = config.data.choices is not None, {*config.objectives, *config.constraints}
        available = (m for m in task.metrics if has_choices or m.name not in CHOICES)
        return TaskMetrics(task.name, tuple(m for m in available if m not in ROUTING or m.name in used_names))
    ref, task_metrics = find(Kind.TASKS, config.task, SHIPPED), task_class(config.task).metrics
    kind = resolve_name(_METRIC)
    if (
        not isinstance(task_metrics, tuple | list)
        or not task_metrics
        or not all(isinstance(metric, kind) for metric in task_metrics)
    ):
        raise PluginError(
            f"{ref}: its metrics are {quoted(repr(task_metrics))}; expected a tuple of supernets.tasks.Metric, at least one",
            code="plugin.contract",
        )
    goals = {True: Goal.MAXIMIZE, False: Goal.MINIMIZE}
    metrics = tuple(Objective(m.name, m.unit, goals[bool(m.maximize)], scored=True) for m in task_metrics)
    shipped = {metric.name: metric for task in SHIPPED.values() for metric in task.metrics}
    for metric in metrics:
        if is_shipped_metric(metric.name):
            same = shipped.get(metric.name)
            if same is None or (same.unit, same.goal) != (metric.unit, metric.goal):
                raise PluginError(
                    f"{ref}: its metric {metric.name} has the name of a shipped one, and is another; rename it",
                    code="plugin.contract",
                )
        elif not METRIC.fullmatch(metric.name):
            raise PluginError(
                f"{ref}: its metric is named {quoted(metric.name)}; expected lower-case letters, digits and _",
                code="plugin.contract",
            )
    return TaskMetrics(config.task, metrics)
