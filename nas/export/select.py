"""Choosing one member of a front: by constraints, by number, or at the knee."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nas import pareto
from nas.errors import SelectionError
from nas.export.report import Point, RunReport, best
from nas.export.units import figure_text
from nas.objectives import Objective

_EXAMPLE = '--select "latency_ms<=1.0" or --select "latency_ms<=1.0, accuracy>=0.9"'
_TERM = re.compile(r"\s*(?P<name>[^\s<>=]+)\s*(?P<sign><=|>=|<|>)\s*(?P<bound>[^\s<>=]+)\s*")
_JOINT = re.compile(r",|\s+and\s+", re.IGNORECASE)
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One constraint on a figure: ``objective sign bound``, the bound in the objective's unit."""

    objective: Objective
    sign: str
    bound: float

    def holds(self, point: Point) -> bool:
        """Whether the point's figure is within the limit."""
        return _OPERATORS[self.sign](point.values[self.objective.name], self.bound)

    def excess(self, point: Point) -> float:
        """How far the figure is outside, 0 inside, in the objective's unit."""
        return 0.0 if self.holds(point) else abs(point.values[self.objective.name] - self.bound)


def parse_limits(report: RunReport, expression: str) -> tuple[Limit, ...]:
    """The limits that an expression such as ``latency_ms<=1.0 and accuracy>=0.9`` states, all of which must hold.

    Raises:
        SelectionError: malformed, or of something that is no objective of the run.
        UnknownNameError: no such objective with the run's profiles.
    """
    return tuple(_limit(report, term, expression) for term in _JOINT.split(expression))


def select(report: RunReport, expression: str) -> Point:
    """The most accurate member of the front that satisfies every limit; the first objective's best without accuracy.

    Of equally accurate ones, the cheapest (fastest).

    Raises:
        SelectionError: malformed, nothing satisfies it (the text names the nearest member), or there is no front.
        UnknownNameError: no such objective with the run's profiles.
    """
    limits = parse_limits(report, expression)
    front = _front(report)
    satisfying = [p for p in front if all(limit.holds(p) for limit in limits)]
    if satisfying:
        return best(satisfying, report.primary)
    nearest = min(front, key=lambda p: sum(_relative_excess(front, limit, p) for limit in limits))
    raise SelectionError(
        f"nothing on the front of run {report.run!r} satisfies {expression.strip()!r}; the nearest is number "
        f"{front.index(nearest)} ({nearest.key}) with {_figures(report, nearest)}"
    )


def by_index(report: RunReport, index: int) -> Point:
    """The front's member of this number, as `nas show` counts them: from 0, in the order of `RunReport.front`.

    Raises:
        SelectionError: no such number, or there is no front.
    """
    front = _front(report)
    if not 0 <= index < len(front):
        raise SelectionError(
            f"--index {index}: the front of run {report.run!r} has {len(front)} members, numbered 0 to {len(front) - 1}"
        )
    return front[index]


def knee(report: RunReport) -> Point:
    """The member at the front's knee (see `nas.pareto.knee`).

    Raises:
        SelectionError: there is no front.
    """
    front = _front(report)
    values = np.array([[o.sign * p.values[o.name] for o in report.objectives] for p in front], dtype=np.float64)
    return front[pareto.knee(values)]


def _front(report: RunReport) -> tuple[Point, ...]:
    if not report.front:
        raise SelectionError(
            f"run {report.run!r} ({report.status}) has no measured network to choose from; "
            f"`nas resume {report.run}` goes on with it"
        )
    return report.front


def _limit(report: RunReport, term: str, expression: str) -> Limit:
    matched = _TERM.fullmatch(term)
    if matched is None:
        raise SelectionError(
            f"--select {expression!r}: {term.strip()!r} is no limit; expected OBJECTIVE, one of <= >= < >, and a "
            f"number, as in {_EXAMPLE}"
        )
    objective = Objective.parse(matched["name"], report.profiles, where="--select")
    if objective not in report.objectives:
        known = ", ".join(o.name for o in report.objectives)
        raise SelectionError(f"--select {expression!r}: {objective.name} is no objective of this run; it has {known}")
    try:
        bound = float(matched["bound"])
    except ValueError:
        bound = float("nan")
    if not np.isfinite(bound):
        raise SelectionError(
            f"--select {expression!r}: {matched['bound']!r} is no finite number; expected one as in {_EXAMPLE}"
        )
    if objective.metric == "accuracy" and bound > 1:
        raise SelectionError(
            f"--select {expression!r}: accuracy is a share between 0 and 1; "
            f"write accuracy{matched['sign']}{bound / 100:g}"
        )
    return Limit(objective, matched["sign"], bound)


def _relative_excess(front: tuple[Point, ...], limit: Limit, point: Point) -> float:
    """The excess as a share of the front's span (of the bound, where the front has no span)."""
    figures = [p.values[limit.objective.name] for p in front]
    span = max(figures) - min(figures)
    return limit.excess(point) / (span or abs(limit.bound) or 1.0)


def _figures(report: RunReport, point: Point) -> str:
    return ", ".join(
        f"{o.name} {figure_text(o, point.values[o.name], point.errors[o.name])}" for o in report.objectives
    )
