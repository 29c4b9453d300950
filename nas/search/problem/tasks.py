"""The metrics of a run's task, as the run's facts record them (no torch); `supernets.tasks` computes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nas.search.problem.objectives import ACCURACY, SCORED_METRICS, Goal, MetricKind, Objective, shipped_objectives


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """A task's name and its metrics, the one that it is scored by without a choice first.

    Attributes:
        name: Name of the task in job files: of a shipped one, e.g. ``classification``, or of a plug-in.
        metrics: Metrics that the task scores networks by, at least one; the first is the default.
    """

    name: str
    metrics: tuple[Objective, ...]

    def scored(self, metrics: Iterable[Objective]) -> Objective:
        """The metric that networks are scored by on the test part: the first of a job's that is the task's, else its first.

        Metrics of routings are no quality of the answers, and are left out.

        Args:
            metrics: Metrics of a job in its order; metrics that are not the task's, such as latencies, are skipped.
        """
        return next((m for m in metrics if m in self.metrics and m not in ROUTING), self.metrics[0])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its metrics."""
        return tuple(metric.name for metric in self.metrics)

    @property
    def own(self) -> dict[str, MetricKind]:
        """Its metrics that no shipped task has, by name."""
        return {m.name: MetricKind(m.unit, m.goal, scored=True) for m in self.metrics if m.name not in SCORED_METRICS}

    def to_json(self) -> dict[str, Any]:
        """Plain data, so that no code of the task is needed to show a run."""
        return {
            "name": self.name,
            "metrics": [{"name": m.name, "unit": m.unit, "goal": m.goal.value} for m in self.metrics],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskMetrics:
        """The metrics that `to_json` wrote.

        Args:
            data: Mapping with ``name`` and ``metrics``, a list of mappings with ``name``, ``unit`` and ``goal``.
        """
        metrics = (Objective(str(m["name"]), str(m["unit"]), Goal(m["goal"]), scored=True) for m in data["metrics"])
        return cls(str(data["name"]), tuple(metrics))


LANGUAGE = "language-modelling"
SERVED_METRICS: Mapping[str, str] = {
    "time_to_first_token_ms": "prefill",
    "time_per_token_ms": "step",
    "tokens_per_second": "step",
}
"""Timed metrics of networks that are served by several models (`supernets.tasks.Task.served`), with the name of the model."""
SERVED_MEMORY = frozenset({"kv_cache_mib", "model_mib", "resident_mib"})
"""Computed metrics of networks that are served with a cache."""
CHOICES = ("choice_accuracy", "normalised_choice_accuracy")
"""Metrics on multiple-choice questions, which a job's data may have."""
ROUTING = shipped_objectives(
    "cache_hit_rate",
    "expert_loads_per_token",
    "segment_cache_hit_rate",
    "segment_routing_f1",
    "active_experts_mean",
    "macs_mean",
)
"""Metrics of how consistently tokens ask for experts, which networks without experts lack."""
CACHED_EXPERTS = tuple(metric.name for metric in ROUTING[:3])
"""Those of a cache, whose size a job gives."""
AGREEMENT, IMITATION = "agreement", "imitation"
"""The metric, and the task without labels, of networks that are made of a trained one."""
OF_CLASSES = ("top5_accuracy", "macro_f1", "auroc", "balanced_accuracy")
"""Metrics of classification that are scored only where a job names them."""
CLASSIFICATION = TaskMetrics("classification", (ACCURACY,))
SHIPPED: Mapping[str, TaskMetrics] = {
    task.name: task
    for task in (
        TaskMetrics(CLASSIFICATION.name, (ACCURACY, *shipped_objectives(AGREEMENT, *OF_CLASSES))),
        TaskMetrics("regression", shipped_objectives("mae", "r2")),
        TaskMetrics(LANGUAGE, (*shipped_objectives("perplexity", "bits_per_byte", *CHOICES), *ROUTING)),
        TaskMetrics(IMITATION, shipped_objectives(AGREEMENT, "r2")),
        TaskMetrics("detection", shipped_objectives("map", "map_50", "map_small", "map_medium", "map_large")),
        TaskMetrics("segmentation", shipped_objectives("miou", "pixel_accuracy")),
        TaskMetrics("multi-label", shipped_objectives("average_precision")),
    )
}
"""By the name that job files have."""
_NEVER_NEGATIVE = SCORED_METRICS - {"r2"}


def may_be_negative(metric: Objective) -> bool:
    """Returns True if a metric may be below 0: R², and the metrics of tasks that are not shipped."""
    return metric.of_task and metric.name not in _NEVER_NEGATIVE


def task_of(metric: str) -> str | None:
    """The shipped task that has a metric of this name."""
    return next((task.name for task in SHIPPED.values() if any(m.name == metric for m in task.metrics)), None)
