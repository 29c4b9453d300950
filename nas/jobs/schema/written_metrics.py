"""The objectives and constraints of a job file as it writes them, and what they mean for its hardware profiles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.errors import UnknownNameError
from nas.jobs.schema.errors import conflict, problem, show
from nas.jobs.schema.metrics import BoundsConfig
from nas.search.problem.objectives import (
    ENERGY,
    TIMED_METRICS,
    Constraint,
    Goal,
    MetricKind,
    Objective,
    is_shipped_metric,
)
from nas.search.problem.tasks import SHIPPED, TaskMetrics, task_of

METRIC = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""The names of additional metrics."""
OwnMetrics = Mapping[str, MetricKind] | None


@dataclass(frozen=True, slots=True)
class WrittenMetrics:
    """The objectives and constraints of a job file as it writes them.

    Attributes:
        additional: Names of the metrics of plug-ins.
        task: The name of the job's task.
    """

    objectives: Sequence[str]
    constraints: Mapping[str, BoundsConfig]
    additional: frozenset[str]
    task: str

    def parsed_objectives(
        self, profiles: Sequence[str], metric_kinds: OwnMetrics = None, task: TaskMetrics | None = None
    ) -> list[Objective]:
        """The objectives; raises a `problem` of the key where one is unknown or occurs twice.

        Args:
            metric_kinds: The additional metrics by name; None where plug-ins are not loaded: then any profile may be theirs.
            task: The metrics of the task; None where a plug-in's is not loaded: then any plain name may be a metric of it.
        """
        objectives = [
            self._metric(text, profiles, f"objectives[{i}]", metric_kinds, task)
            for i, text in enumerate(self.objectives)
        ]
        check_distinct("objectives", [objective.name for objective in objectives])
        return objectives

    def parsed_constraints(
        self, profiles: Sequence[str], metric_kinds: OwnMetrics = None, task: TaskMetrics | None = None
    ) -> list[Constraint]:
        """The constraints, as `parsed_objectives`."""
        constraint_by_name: dict[str, Constraint] = {}
        for text, bounds in self.constraints.items():
            key = f"constraints.{text}"
            metric = self._metric(text, profiles, key, metric_kinds, task)
            if metric.name in constraint_by_name:
                raise problem(key, f"{show(metric.name)} occurs twice; keep one spelling", code="job.duplicate")
            constraint_by_name[metric.name] = bounds.constraint(metric, key)
        return list(constraint_by_name.values())

    def _metric(
        self, text: str, profiles: Sequence[str], key: str, metric_kinds: OwnMetrics, task: TaskMetrics | None
    ) -> Objective:
        metric, _, profile = text.partition("@")
        if metric in self.additional and metric_kinds is None and (not profile or profile in profiles):
            return Objective(text, "", Goal.MINIMIZE)
        kinds = dict(metric_kinds or dict.fromkeys(self.additional, MetricKind("", Goal.MINIMIZE)))
        names: tuple[str, ...] = ()
        if (task_metrics := task or SHIPPED.get(self.task)) is not None:
            kinds, names = kinds | task_metrics.own, task_metrics.names
        elif METRIC.fullmatch(text) and text not in TIMED_METRICS and not is_shipped_metric(text):
            return Objective(text, "", Goal.MAXIMIZE, scored=True)
        try:
            return Objective.parse(text, profiles, extra_metrics=kinds, task=names)
        except UnknownNameError as error:
            message, other_task = str(error), task_of(text)
            if task_metrics is not None and other_task is not None:
                task_text = f"the job's task is {task_metrics.name}, with {', '.join(names)}"
                has = f"{text} is a metric of the task {other_task}, and {task_text}"
                message = f"{has}; name one of its own, or write task: {other_task}"
            raise problem(key, message, code="job.unknown-name") from None


def check_own_metric(name: str) -> None:
    """Raises a `problem` where an additional metric cannot have a name."""
    if not METRIC.fullmatch(name):
        expected = "expected names of lower-case letters, digits and _, e.g. energy_mj"
        raise problem("metrics", f"{expected}; got {show(name)}")
    if is_shipped_metric(name) and name != ENERGY:
        raise conflict(f"metrics.{name}", "is the name of a shipped metric; choose another name")


def check_distinct(key: str, names: Sequence[str]) -> None:
    """Raises a `problem` of a key where a name of its list occurs twice."""
    earlier_names: set[str] = set()
    for i, name in enumerate(names):
        if name in earlier_names:
            raise problem(f"{key}[{i}]", f"{show(name)} occurs twice; keep one", code="job.duplicate")
        earlier_names.add(name)
