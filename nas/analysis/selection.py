"""Choosing among what a run measured: the best within limits, or a member of the front by number or at the knee."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.analysis.formatting import format_value, miss_text
from nas.analysis.fronts import best, comparable, front_hypervolume, front_of, nearest_of, of_profile
from nas.analysis.points import Point, minimised_of, values_of
from nas.analysis.report import RunReport
from nas.errors import SelectionError
from nas.problem import pareto
from nas.problem.objectives import Constraint, Objective

_EXAMPLE = '--select "latency_ms<=1.0" or --select "latency_ms<=1.0, accuracy>=0.9"'
_TERM = re.compile(r"\s*(?P<name>[^\s<>=]+)\s*(?P<sign><=|>=|<|>)\s*(?P<bound>[^\s<>=]+)\s*")
_JOINT = re.compile(r",|\s+and\s+", re.IGNORECASE)
_NAMED = re.compile(r"\s*key\s*=\s*(?P<key>[^\s=]+)\s*")
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

    def allows(self, value: float) -> bool:
        """Whether a figure is within the limit."""
        return _OPERATORS[self.sign](value, self.bound)

    @property
    def constraint(self) -> Constraint:
        """The limit with its bound included, by which misses are told and counted."""
        below = self.sign in ("<", "<=")
        return Constraint(self.objective, None if below else self.bound, self.bound if below else None)


def limits_of(constraints: Sequence[Constraint]) -> tuple[Limit, ...]:
    """The limits that constraints state."""
    return tuple(
        Limit(c.metric, sign, bound)
        for c in constraints
        for sign, bound in ((">=", c.minimum), ("<=", c.maximum))
        if bound is not None
    )


def parse_limits(report: RunReport, expression: str) -> tuple[Limit, ...]:
    """The limits that an expression such as ``latency_ms<=1.0 and accuracy>=0.9`` states, all of which must hold.

    Raises:
        SelectionError: malformed, or of something that the run did not measure.
        UnknownNameError: no such figure with the run's profiles.
    """
    return parse_terms(expression, report.profiles, report.metrics)


def parse_terms(expression: str, profiles: Sequence[str], metrics: Sequence[Objective]) -> tuple[Limit, ...]:
    """The limits of an expression on some of these figures.

    Raises:
        SelectionError: malformed, or of another figure.
        UnknownNameError: no such figure with these profiles.
    """
    return tuple(_limit(term, expression, profiles, metrics) for term in _JOINT.split(expression))


def within(report: RunReport, limits: Sequence[Limit]) -> RunReport:
    """The report as it is under these limits in place of the run's constraints, from what was measured.

    All evaluated networks are chosen from. One that was measured again counts with its final figures; see `comparable` for
    those that were not.
    """
    kept = np.ones(len(report.candidates), dtype=bool)
    for limit in limits:
        values = values_of(report.candidates, limit.objective.name).tolist()
        kept &= np.array([limit.allows(value) for value in values], dtype=bool)
    chosen = comparable(report.candidates.take(np.flatnonzero(kept)), report.evaluated, report.objectives)
    front = front_of(chosen, report.objectives)
    constraints = tuple(limit.constraint for limit in limits)
    return replace(
        report,
        constraints=constraints,
        front=front,
        fronts={p: front_of(chosen, of_profile(report.objectives, p)) for p in report.fronts},
        nearest=None if front else nearest_of(report.candidates, constraints),
        front_hypervolume=front_hypervolume(front, report.objectives, report.reference),
        distinguishable={},
    )


def select(report: RunReport, expression: str) -> Point:
    """The most accurate evaluated network that satisfies every limit; the first objective's best without accuracy.

    Of equally accurate ones, the cheapest (fastest). ``key=0-2-1`` in place of limits is the network of this key.

    Raises:
        SelectionError: malformed, nothing satisfies it (the text names the nearest), or nothing is measured.
        UnknownNameError: no such figure with the run's profiles.
    """
    if (named := _NAMED.fullmatch(expression)) is not None:
        return by_key(report, named["key"])
    return best_within(within(report, parse_limits(report, expression)), expression)


def best_within(report: RunReport, expression: str) -> Point:
    """The most accurate of a report made by `within` from the expression.

    Raises:
        SelectionError: nothing satisfies it (the text names the nearest), or nothing is measured.
    """
    if report.front:
        return best(report.front, report.primary)
    if report.nearest is None:
        raise SelectionError(_nothing(report))
    point, miss = report.nearest.point, report.nearest.miss
    broken = miss_text(miss) or "a figure at a bound that it must not reach"
    raise SelectionError(
        f"nothing that run {report.run!r} measured satisfies {expression.strip()!r}; the nearest is {point.key} with "
        f"{_figures(report, point)}; it breaks {broken}"
    )


def by_key(report: RunReport, key: str) -> Point:
    """The measured network of a key, which stays the same while the front changes.

    Raises:
        SelectionError: the run has measured none of this key.
    """
    place = report.candidates.places.get(key)
    if place is None:
        raise SelectionError(
            f"run {report.run!r} measured no network of the key {key!r}; `nas show` tells the front's keys"
        )
    return report.candidates[place]


def pick(report: RunReport, expression: str | None = None, index: int | None = None) -> Point:
    """The network that an expression (see `select`) or a number of the front names; without either, the front's knee.

    Raises:
        SelectionError: there is none.
    """
    if expression is not None:
        return select(report, expression)
    return knee(report) if index is None else by_index(report, index)


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
    """The member at the front's knee (see `nas.problem.pareto.knee`).

    Raises:
        SelectionError: there is no front.
    """
    front = _front(report)
    return front[pareto.knee(minimised_of(front, report.objectives))]


def _front(report: RunReport) -> tuple[Point, ...]:
    if report.front:
        return report.front
    if report.nearest is not None and report.nearest.miss.broken:
        raise SelectionError(
            f"no measured network of run {report.run!r} keeps its constraints; the nearest is {report.nearest.point.key} with "
            f"{miss_text(report.nearest.miss)}; --select with other limits takes the best that keeps those"
        )
    raise SelectionError(_nothing(report))


def _nothing(report: RunReport) -> str:
    return (
        f"run {report.run!r} ({report.status}) has no measured network to choose from; "
        f"`nas resume {report.run}` goes on with it"
    )


def _limit(term: str, expression: str, profiles: Sequence[str], metrics: Sequence[Objective]) -> Limit:
    matched = _TERM.fullmatch(term)
    if matched is None:
        raise SelectionError(
            f"--select {expression!r}: {term.strip()!r} is no limit; expected OBJECTIVE, one of <= >= < >, and a "
            f"number, as in {_EXAMPLE}"
        )
    objective = Objective.parse(matched["name"], profiles, where="--select")
    if objective not in metrics:
        known = ", ".join(o.name for o in metrics)
        raise SelectionError(f"--select {expression!r}: this run did not measure {objective.name}; it has {known}")
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


def _figures(report: RunReport, point: Point) -> str:
    return ", ".join(f"{o.name} {format_value(o, point.values[o.name], point.errors[o.name])}" for o in report.columns)
