"""The sections of a job file on metrics: bounds, and metrics that plug-ins measure (no torch)."""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import BeforeValidator, model_validator

from nas.jobs.schema.errors import conflict, missing_key, problem, show
from nas.jobs.schema.plugin_names import Settings, plugin_name, settings
from nas.jobs.schema.section import Section
from nas.plugins import Kind
from nas.search.problem.objectives import Constraint, Objective, is_shipped_metric
from nas.search.problem.tasks import may_be_negative


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
