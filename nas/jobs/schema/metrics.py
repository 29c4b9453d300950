"""The sections of a job file on what is measured: metrics of plug-ins, bounds, and the calls of language models (no torch)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Self

from pydantic import BeforeValidator, model_validator

from nas.errors import UnknownNameError
from nas.jobs.schema.errors import conflict, missing_key, problem, show
from nas.jobs.schema.section import Section, Settings, plugin_name, positive, settings, whole_number
from nas.plugins import Kind
from nas.search.problem.objectives import (
    ENERGY,
    TIMED_METRICS,
    Constraint,
    Goal,
    MetricKind,
    Objective,
    is_shipped_metric,
)
from nas.search.problem.tasks import SHIPPED, TaskMetrics, may_be_negative, task_of

METRIC = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""The names of additional metrics."""
OwnMetrics = Mapping[str, MetricKind] | None


def _check_bound(value: object) -> object:
    """The value, if it is a finite number or None."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    raise problem("", f"expected a finite number, got {show(value)}")


_Bound = Annotated[float | None, BeforeValidator(_check_bound)]


class BoundsConfig(Section):
    """Bounds on a metric, in its own unit: at least `min`, at most `max`, or both."""

    min: _Bound = None
    """The least value that is allowed."""
    max: _Bound = None
    """The largest value that is allowed."""

    @model_validator(mode="before")
    @classmethod
    def _check_mapping(cls, value: object) -> object:
        if not isinstance(value, dict | BoundsConfig):
            raise problem("", f"expected min, max or both, e.g. {{max: 2.0}}, got {show(value)}")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise missing_key("", "has no bound; expected min, max or both, e.g. {max: 2.0}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise conflict("", f"nothing is at least {self.min:g} and at most {self.max:g}; lower min or raise max")
        return self

    def constraint(self, metric: Objective, key: str) -> Constraint:
        """The constraint on a metric; raises a `problem` of `key`, the path of the bounds, if it cannot have such a value."""
        for name, bound in (("min", self.min), ("max", self.max)):
            if bound is None:
                continue
            if metric.unit == "share" and bound > 1:
                share = f"; write {bound / 100:g}" if bound <= 100 else ""
                raise problem(f"{key}.{name}", f"{metric.name} is a share between 0 and 1, got {bound:g}{share}")
            if may_be_negative(metric) or not is_shipped_metric(metric.metric):
                continue
            if bound < 0 or (name == "max" and bound == 0):
                raise problem(f"{key}.{name}", f"{metric.metric} is always above 0; got the bound {bound:g}")
        return Constraint(metric, self.min, self.max)


class MetricConfig(Section):
    """An additional metric, measured by a plug-in; a job writes its name alone where it has no settings."""

    name: plugin_name(Kind.METRICS, ())  # type: ignore[valid-type]  # as that of an algorithm
    settings: Settings = settings()

    @model_validator(mode="before")
    @classmethod
    def _expand_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class ServingConfig(Section):
    """The calls that time a language model, and the size of its cache of keys and values."""

    prompt_tokens: int | None = whole_number(1, 2**20, default=None, of="tokens")
    """The length of the prompt of `time_to_first_token_ms`, or of the source of a pair; None takes `data.max_tokens`, or the
    longest source."""
    context_tokens: int | None = whole_number(1, 2**20, default=None, of="tokens")
    """The tokens in the cache before a step of `time_per_token_ms`, also for `kv_cache_mib`; None takes those of the prompt, or
    half of a mean target."""
    batch: int | None = whole_number(1, 2**16, default=None, of="texts")
    """Texts at a time; None takes the batch of each profile."""
    expert_cache: int | None = whole_number(1, 2**10, default=None, of="experts")
    """The experts of each layer that are in memory, the others being loaded when a token is routed to them; None: all."""
    expert_cache_mib: float | None = positive(2**30, default=None, of="MiB")
    """The memory of all layers' experts that are in it, in place of `expert_cache`."""

    @property
    def caches_experts(self) -> bool:
        """True if only part of the experts is in memory."""
        return self.expert_cache is not None or self.expert_cache_mib is not None


def parse_metric(
    text: str,
    key: str,
    profiles: Sequence[str],
    *,
    additional: Collection[str],
    task_name: str,
    metric_kinds: OwnMetrics,
    task: TaskMetrics | None,
) -> Objective:
    """The metric that an objective or a constraint names; raises a `problem` of its `key` where it is unknown.

    Args:
        profiles: Names of the job's hardware profiles.
        additional: Names of the metrics of plug-ins.
        task_name: The name of the job's task.
        metric_kinds: The additional metrics by name; None where plug-ins are not loaded: then any profile may be theirs.
        task: The metrics of the task; None where a plug-in's is not loaded: then any plain name may be a metric of it.
    """
    metric, _, profile = text.partition("@")
    if metric in additional and metric_kinds is None and (not profile or profile in profiles):
        return Objective(text, "", Goal.MINIMIZE)
    kinds = dict(metric_kinds or dict.fromkeys(additional, MetricKind("", Goal.MINIMIZE)))
    names: tuple[str, ...] = ()
    if (task_metrics := task or SHIPPED.get(task_name)) is not None:
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
