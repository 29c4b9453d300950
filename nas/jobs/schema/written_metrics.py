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
    """What a job file says of its metrics.

    Attributes:
        additional: names of the metrics of plug-ins.
        task: its name.
    """

    objectives: Sequence[str]
    constraints: Mapping[str, BoundsConfig]
    additional: frozenset[str]
    task: str

    def parsed_objectives(
        self, profiles: Sequence[str], own: OwnMetrics = None, task: TaskMetrics | None = None
    ) -> list[Objective]:
        """The objectives; raises a `problem` of the key where one is unknown or occurs twice.

        Args:
            own: the additional metrics by name; None where their plug-ins are not loaded: then any profile may be theirs.
            task: None where a plug-in's is not loaded: then any plain name may be a metric of it.
        """
        found = [self._metric(text, profiles, f"objectives[{i}]", own, task) for i, text in enumerate(self.objectives)]
        check_distinct("objectives", [objective.name for objective in found])
        return found

    def parsed_constraints(
        self, profiles: Sequence[str], own: OwnMetrics = None, task: TaskMetrics | None = None
    ) -> list[Constraint]:
        """The constraints, as `parsed_objectives`."""
        found: dict[str, Constraint] = {}
        for text, bounds in self.constraints.items():
            key = f"constraints.{text}"
            metric = self._metric(text, profiles, key, own, task)
            if metric.name in found:
                raise problem(key, f"{show(metric.name)} occurs twice; keep one spelling", code="job.duplicate")
            found[metric.name] = bounds.constraint(metric, key)
        return list(found.values())

    def _metric(
        self, text: str, profiles: Sequence[str], key: str, own: OwnMetrics, task: TaskMetrics | None
    ) -> Objective:
        metric, _, profile = text.partition("@")
        if metric in self.additional and own is None and (not profile or profile in profiles):
            return Objective(text, "", Goal.MINIMIZE)
        kinds = dict(own or dict.fromkeys(self.additional, MetricKind("", Goal.MINIMIZE)))
        names: tuple[str, ...] = ()
        if (known := task or SHIPPED.get(self.task)) is not None:
            kinds, names = kinds | known.own, known.names
        elif METRIC.fullmatch(text) and text not in TIMED_METRICS and not is_shipped_metric(text):
            return Objective(text, "", Goal.MAXIMIZE, scored=True)
        try:
            return Objective.parse(text, profiles, extra_metrics=kinds, task=names)
        except UnknownNameError as error:
            message, other = str(error), task_of(text)
            if known is not None and other is not None:
                has = f"{text} is a metric of the task {other}, and the job's task is {known.name}, with {', '.join(names)}"
                message = f"{has}; name one of its own, or write task: {other}"
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
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            raise problem(f"{key}[{i}]", f"{show(name)} occurs twice; keep one", code="job.duplicate")
        seen.add(name)
