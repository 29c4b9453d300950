"""The constraints of a job file: bounds on metrics (no torch)."""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import BeforeValidator, model_validator

from nas.config.errors import conflict, missing_key, problem, show
from nas.config.section import Section
from nas.problem.objectives import Constraint, Objective


def _check_bound(value: object) -> object:
    """Lets through a finite number."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    raise problem("", f"expected a finite number, got {show(value)}")


_Bound = Annotated[float | None, BeforeValidator(_check_bound)]


class BoundsConfig(Section):
    """Bounds on a metric, in its own unit: at least `min`, at most `max`, or both."""

    min: _Bound = None
    max: _Bound = None

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
        """The constraint on a metric, as the engine takes it; `key` is the path of the bounds in the job file.

        Raises:
            PydanticCustomError: the metric cannot have the value of a bound.
        """
        for name, bound in (("min", self.min), ("max", self.max)):
            if bound is None:
                continue
            if metric.metric == "accuracy" and bound > 1:
                share = f"; write {bound / 100:g}" if bound <= 100 else ""
                raise problem(f"{key}.{name}", f"accuracy is a share between 0 and 1, got {bound:g}{share}")
            if bound < 0 or (name == "max" and bound == 0):
                raise problem(f"{key}.{name}", f"{metric.metric} is always above 0; got the bound {bound:g}")
        return Constraint(metric, self.min, self.max)
