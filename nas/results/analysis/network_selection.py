"""Selection of a measured network: the best within limits, or a member of the front by number, by key or at its knee."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.engine.formatting import format_value, miss_text
from nas.errors import REPEAT, Remedy, SelectionError, quoted
from nas.results.analysis.fronts import best, comparable, front_hypervolume, front_of, nearest_of, of_profile
from nas.results.analysis.network_values import Point, minimised_of, values_of
from nas.results.analysis.report import RunReport
from nas.search.problem import pareto
from nas.search.problem.objectives import EXACT_METRICS, Constraint, Objective
from nas.search.problem.tasks import SERVED_MEMORY, may_be_negative

_EXAMPLE = '"latency_ms<=1.0" or "latency_ms<=1.0, accuracy>=0.9"'
_TERM = re.compile(r"\s*(?P<name>[^\s<>=]+)\s*(?P<sign><=|>=|<|>)\s*(?P<bound>[^\s<>=]+)\s*")
_JOINT = re.compile(r",|\s+and\s+", re.IGNORECASE)
_NAMED = re.compile(r"\s*(?P<name>key|network)\s*=\s*(?P<value>[^\s=]+)\s*")
_REVERSED = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?%?", re.IGNORECASE)
_TURNED = str.maketrans("<>", "><")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One constraint on a metric: ``objective sign bound``, the bound in the objective's unit."""

    objective: Objective
    sign: str
    bound: float

    def allows(self, value: float) -> bool:
        """Returns True if a value is within the limit."""
        return _OPERATORS[self.sign](value, self.bound)

    @property
    def constraint(self) -> Constraint:
        """The limit with its bound included, to compute and describe violations."""
        below = self.sign in ("<", "<=")
        return Constraint(self.objective, None if below else self.bound, self.bound if below else None)


def names_network(expression: str) -> bool:
    """Returns True for ``network=17`` or ``key=0-2-1``, which name one network; other expressions are limits."""
    return _NAMED.fullmatch(expression) is not None


def limits_of(constraints: Sequence[Constraint]) -> tuple[Limit, ...]:
    """The limits of constraints."""
    return tuple(
        Limit(c.metric, sign, bound)
        for c in constraints
        for sign, bound in ((">=", c.minimum), ("<=", c.maximum))
        if bound is not None
    )


def parse_limits(report: RunReport, expression: str) -> tuple[Limit, ...]:
    """The limits of an expression such as ``latency_ms<=1.0 and accuracy>=0.9``, all of which must hold.

    Raises:
        SelectionError: the expression is malformed, or the run has not measured one of its metrics.
        UnknownNameError: there is no such metric with the run's profiles.
    """
    return parse_terms(expression, report.profiles, report.metrics)


def parse_terms(expression: str, profiles: Sequence[str], metrics: Sequence[Objective]) -> tuple[Limit, ...]:
    """The limits of an expression on some of these metrics; raises as `parse_limits`."""
    return tuple(_limit(term, expression, profiles, metrics) for term in _JOINT.split(expression))


def parse_cost_limits(expression: str, profiles: Sequence[str] = ()) -> tuple[Limit, ...]:
    """The limits of an expression on computed costs, and on latencies on profiles, for networks that no search measured.

    Raises as `parse_limits`.
    """
    names = [*sorted(EXACT_METRICS - SERVED_MEMORY), *(f"latency_ms@{profile}" for profile in profiles)]
    return parse_terms(expression, profiles, [Objective.parse(name, profiles) for name in names])


def within(report: RunReport, limits: Sequence[Limit]) -> RunReport:
    """The report with these limits in place of the run's constraints.

    The front is chosen from all evaluated networks. One that was measured again counts with its final values; see
    `comparable` for those that were not.
    """
    satisfying = np.ones(len(report.candidates), dtype=bool)
    for limit in limits:
        values = values_of(report.candidates, limit.objective.name).tolist()
        satisfying &= np.array([limit.allows(value) for value in values], dtype=bool)
    chosen = comparable(report.candidates.take(np.flatnonzero(satisfying)), report.evaluated, report.objectives)
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


def choose(report: RunReport, expression: str | None = None, index: int | None = None) -> Point:
    """The network that an expression (see `select`) or a number of the front names; without either, the front's knee.

    Raises:
        SelectionError: There is no such network, or both an expression and a number are given.
    """
    if expression is not None and index is not None:
        problem = f"select {expression!r} and index {index} exclude each other; give one"
        raise SelectionError(problem, code="selection.ambiguous", parameter="select")
    if expression is not None:
        return select(report, expression)
    return knee(report) if index is None else by_index(report, index)


def select(report: RunReport, expression: str) -> Point:
    """The evaluated network that is best by the task's metric (the most accurate one) and satisfies every limit; without such
    a metric, the first objective's best.

    Of equally good ones, the cheapest. The expression ``network=17`` selects the network of this number (see
    `RunReport.numbers`), and ``key=0-2-1`` that of this key.

    Raises:
        SelectionError: the expression is malformed, no network satisfies it, or nothing is measured.
        UnknownNameError: there is no such metric with the run's profiles.
    """
    if (match := _NAMED.fullmatch(expression)) is not None:  # see `names_network`
        return by_key(report, match["value"]) if match["name"] == "key" else by_number(report, match["value"])
    return best_within(within(report, parse_limits(report, expression)), expression)


def best_within(report: RunReport, expression: str) -> Point:
    """The most accurate network of a report that `within` made for the expression.

    Raises:
        SelectionError: no network satisfies it (the message names the nearest), or nothing is measured.
    """
    if report.front:
        return best(report.front, report.primary)
    if report.nearest is None:
        raise nothing_measured(report)
    point = report.nearest.point
    texts = [f"{m.name} {format_value(m, point.values[m.name], point.errors[m.name])}" for m in report.columns]
    broken = miss_text(report.nearest.miss) or "a limit with < or >, by a value at its bound"
    problem = (
        f"no measured network of run {report.run!r} satisfies {quoted(expression.strip())}; the nearest is {point.key}"
    )
    text = f"{problem} with {', '.join(texts)}; it violates {broken}"
    raise SelectionError(text, code="selection.nothing-satisfies")


def by_key(report: RunReport, key: str) -> Point:
    """The measured network of a key, which stays the same while the front changes.

    Raises:
        SelectionError: the run has no measured network with this key.
    """
    for points in (report.candidates, report.evaluated):  # the latter have those whose longer measurement failed
        if (place := points.places.get(key)) is not None:
            return points[place]
    problem = f"run {report.run!r} has no measured network with the key {quoted(key)}"
    raise SelectionError(problem, code="selection.unknown-network", remedy=Remedy("show", report.run))


def by_number(report: RunReport, number: str) -> Point:
    """The measured network of a number, which counts the networks of a run in the order of their evaluations, from 1.

    Raises:
        SelectionError: the run has no such network, or it is not measured.
    """
    key = next((key for key, n in report.numbers.items() if str(n) == number), None)
    if key is None:
        problem = (
            f"run {report.run!r} has no network {quoted(number)}; expected a number from 1 to {len(report.numbers)}"
        )
        raise SelectionError(problem, code="selection.unknown-network", remedy=Remedy("show", report.run))
    return by_key(report, key)


def by_index(report: RunReport, index: int) -> Point:
    """The front's member of this number, counted from 0, in the order of `RunReport.front`.

    Raises:
        SelectionError: there is no such number, or no front.
    """
    front = _front(report)
    if not 0 <= index < len(front):
        expected = f"has {len(front)} members, numbered 0 to {len(front) - 1}"
        problem = f"index {index}: the front of run {report.run!r} {expected}"
        raise SelectionError(problem, code="selection.unknown-network", parameter="index")
    return front[index]


def knee(report: RunReport) -> Point:
    """The member at the front's knee (see `nas.search.problem.pareto.knee`).

    Raises:
        SelectionError: there is no front.
    """
    front = _front(report)
    return front[pareto.knee(minimised_of(front, report.objectives))]


def _front(report: RunReport) -> tuple[Point, ...]:
    if report.front:
        return report.front
    if report.nearest is None or not report.nearest.miss.broken:
        raise nothing_measured(report)
    nearest = f"the nearest is {report.nearest.point.key} with {miss_text(report.nearest.miss)}"
    problem = (
        f"no measured network of run {report.run!r} satisfies its constraints; {nearest}; select within other limits"
    )
    remedy = Remedy(REPEAT, options={"select": "LIMITS"})
    raise SelectionError(problem, code="selection.nothing-satisfies", remedy=remedy)


def nothing_measured(report: RunReport) -> SelectionError:
    """The error where a run has measured no network yet."""
    problem = f"run {report.run!r} ({report.status}) has no measured network; resume the run"
    return SelectionError(problem, code="run.nothing-measured", remedy=Remedy("resume", report.run))


def _limit(term: str, expression: str, profiles: Sequence[str], metrics: Sequence[Objective]) -> Limit:
    def malformed(problem: str) -> SelectionError:
        return SelectionError(f"select {quoted(expression)}: {problem}", code="selection.malformed", parameter="select")

    matched = _TERM.fullmatch(term)
    if matched is None:
        problem = f"{quoted(term.strip())} is not a limit; expected OBJECTIVE, one of <= >= < >, and a number, as in {_EXAMPLE}"
        raise malformed(problem)
    if _REVERSED.fullmatch(matched["name"]) is not None:
        turned = f"{matched['bound']}{matched['sign'].translate(_TURNED)}{matched['name']}"
        raise malformed(f"the metric comes first; write {turned}")
    objective = Objective.parse(matched["name"], profiles, where="select", measured=metrics)
    if objective not in metrics:
        problem = f"{objective.name} is not measured here; expected one of {', '.join(o.name for o in metrics)}"
        raise SelectionError(
            f"select {quoted(expression)}: {problem}", code="selection.unknown-metric", parameter="select"
        )
    text = matched["bound"].strip()
    try:
        bound = float(text)
    except ValueError:
        bound = float("nan")
    if objective.unit == "share" and re.fullmatch(r"[0-9.]+ *%", text):
        raise malformed(
            f"{objective.name} is a share between 0 and 1; write {objective.name}{matched['sign']}{float(text[:-1]) / 100:g}"
        )
    if bound < 0 and not may_be_negative(objective):
        raise malformed(f"{objective.name} is never below 0; expected a bound of at least 0, as in {_EXAMPLE}")
    if not np.isfinite(bound):
        raise malformed(f"{quoted(matched['bound'])} is not a finite number; expected one as in {_EXAMPLE}")
    if objective.unit == "share" and bound > 1:
        raise malformed(
            f"{objective.name} is a share between 0 and 1; write {objective.name}{matched['sign']}{bound / 100:g}"
        )
    return Limit(objective, matched["sign"], bound)
