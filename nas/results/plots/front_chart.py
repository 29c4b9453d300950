"""The chart of the front of a run among all its networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import combinations
from textwrap import wrap
from typing import Literal, NamedTuple

import numpy as np

from nas.engine.formatting import bound_text, format_value, option_texts, score_text, shown_scale, title_of
from nas.results.analysis.finetuned_runs import Finetuning
from nas.results.analysis.fronts import broken_by, of_profile
from nas.results.analysis.network_selection import Limit, nothing_measured
from nas.results.analysis.network_values import Point, Points, errors_of, minimised_of, take_points, values_of
from nas.results.analysis.report import RunReport
from nas.results.plots import colours
from nas.results.plots.charts import Axis, Chart, Guide, Look, Panel, Series
from nas.results.plots.colours import Colour
from nas.search.problem.objectives import Objective
from nas.search.problem.pareto import non_dominated
from nas.search.problem.variants import RUNTIME

Pair = tuple[Objective, Objective]
"""The metrics of a panel, along x and along y."""

FRONT_NAME = "front, measured (± error)"
PROFILE_FRONT_NAME = "front of one profile (± error)"
JOINT_NAME = "joint front of all profiles (± error)"
MEASURED_NAME = "measured"
BREAKING_NAME = "measured, breaks a limit"
PREDICTED_NAME = "predicted, not measured"
NEAREST_NAME = "nearest to the limits"
FINETUNED_NAME = "fine-tuned"

_SYMBOLS = {"": "circle", "fp32": "circle", "int8": "square", "int4": "diamond", "fp16": "cross", "bf16": "x"}
"""By `Point.precision`."""


class Group(NamedTuple):
    """Networks of one variant: its precision and its runtime, "" where the run has a single one of them.

    Attributes:
        precision: Precision of the networks, e.g. ``int8``.
        runtime: Runtime of the networks.
        is_other_runtime: True if the runtime is not the first of the job; the symbols of these networks are hollow.
    """

    precision: str = ""
    runtime: str = ""
    is_other_runtime: bool = False

    def __str__(self) -> str:
        """``int8, openvino``."""
        return ", ".join(filter(None, self[:2]))

    @property
    def symbol(self) -> str:
        """The symbol of its networks."""
        return _SYMBOLS[self.precision]

    @property
    def grey(self) -> Colour:
        """The colour of its networks that are on no front."""
        greys = colours.OTHER_RUNTIME_GREYS if self.is_other_runtime else colours.PRECISION_GREYS
        return greys.get(self.precision, colours.OTHER_RUNTIME if self.is_other_runtime else colours.MEASURED)


_SIGNS = {"<=": "≤", ">=": "≥", "<": "<", ">": ">"}
_MUTED = 0.4
"""Opacity of error bars."""
_THIN = 1.4
"""Width of lines beside that of the front."""
_PAIRED = 4
"""Up to this many objectives, every pair has a panel."""


def front_chart(
    report: RunReport, limits: Sequence[Limit] = (), finetunings: Sequence[Finetuning] = ()
) -> Chart | None:
    """The front among everything measured and predicted, a panel for each of `pairs`; None without any.

    Args:
        limits: Limits that are drawn as lines.
        finetunings: Runs that fine-tuned networks of this run.

    Raises:
        SelectionError: Nothing is measured yet.
    """
    if not (shown := pairs(report)):
        return None
    networks = Networks.from_report(report, report.evaluated, finetunings)
    panels = []
    for x, y in shown:
        guides = [*_guides("x", x, limits), *_guides("y", y, limits)]
        panels.append(Panel(_axis(report, x), _axis(report, y), networks.series((x, y)), guides))
    n_columns = 2 if len(panels) == 4 else min(3, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    size = (8.0, 5.4) if len(panels) == 1 else (4.6 * n_columns, 4.1 * n_rows + 1.2)
    return Chart(*heading(report), panels, size, n_columns, _HoverTexts(report, finetunings))


def heading(report: RunReport) -> tuple[str, str]:
    """The run's title, and a line of its profiles, size and state."""
    title = report.run if report.run.startswith(report.name) else f"{report.name} · {report.run}"  # ids are NAME-N
    timed = {metric.profile for metric in report.columns}
    profiles = ", ".join(profile for profile in report.profiles if profile in timed)
    front_text = f"{len(report.front)} on the front"
    if report.nearest is not None and report.nearest.miss.broken:
        front_text = "none satisfies the limits"
    count = f"{report.evaluations_text}, {front_text}"
    return title, " · ".join(part for part in (profiles, count, str(report.status)) if part)


def pairs(report: RunReport) -> list[Pair]:
    """Pairs of objectives, costs along x and quality along y; then limited metrics that are no objectives, along x.

    Every pair of up to four objectives; of more, each with quality alone. A single objective has panels with limited
    metrics only, and none without those: its convergence shows all there is.

    Raises:
        SelectionError: nothing is measured yet.
    """
    if not report.evaluated:
        raise nothing_measured(report)
    primary = report.primary
    # Along x: latencies first, as they are what users limit; quality never.
    ordered = sorted(report.objectives, key=lambda o: (o == primary, o.metric != "latency_ms"))
    objective_pairs = sorted(combinations(ordered, 2), key=lambda pair: pair[1] != primary)
    if len(ordered) > _PAIRED:
        objective_pairs = [pair for pair in objective_pairs if primary in pair]
    return [*objective_pairs, *((metric, primary) for metric in report.columns if metric not in report.objectives)]


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a report, from which any panel's series are made.

    Attributes:
        within, breaking: measured networks on no front that keep all limits, and that break one; no anchors.
        by_variant: all evaluated networks, where the run has several variants; else empty.
    """

    report: RunReport
    within: Points
    breaking: Points
    by_variant: Mapping[Group, Sequence[Point]]
    finetunings: Sequence[Finetuning]

    @classmethod
    def from_report(cls, report: RunReport, measured: Points, finetunings: Sequence[Finetuning] = ()) -> Networks:
        """The networks of a report; `measured` are its `evaluated` (search values) or its `candidates` (final where any)."""
        fronts = [p for front in (report.front, *report.fronts.values()) for p in front]
        shown = {p.key for p in [*fronts, *report.anchors.values()]}
        background = measured.take([place for place, key in enumerate(measured.keys) if key not in shown])
        breaks = broken_by(background, report.constraints) > 0
        within, breaking = (background.take(np.flatnonzero(chosen)) for chosen in (~breaks, breaks))
        groups = by_variant(report.evaluated)
        return cls(report, within, breaking, groups if len(groups) > 1 else {}, finetunings)

    def series(self, pair: Pair) -> list[Series]:
        """The series of a panel, in drawing order."""
        report, joined = self.report, is_joined(self.report, pair)
        nearest = [] if report.nearest is None or not report.nearest.miss.broken else [report.nearest.point]
        drawn = [
            _series(pair, BREAKING_NAME, self.breaking, Look(colours.MEASURED, "x-thin", opacity=0.75)),
            *self._measured(pair, joined=joined),
            *self._predicted(pair, joined=joined),
            *self._front(pair, joined=joined),
        ]
        ends = {"smallest": (colours.SMALLEST, "triangle-down"), "largest": (colours.LARGEST, "triangle-up")}
        for name, point in report.anchors.items():
            drawn.append(_series(pair, f"{name} network", [point], Look(*ends[name], size=14)))
        drawn += [*self._finetuned(pair), _series(pair, NEAREST_NAME, nearest, Look(colours.NEAREST, "star", size=20))]
        return [series for series in drawn if len(series.points)]

    def _measured(self, pair: Pair, *, joined: bool) -> list[Series]:
        """The networks within all limits by variant, and the line of each variant's own front where there are several."""
        drawn = []
        for group, points in by_variant(self.within).items():
            look = Look(group.grey, group.symbol, hollow=group.is_other_runtime, opacity=0.75)
            drawn.append(_series(pair, _name_with_variant(MEASURED_NAME, group), points, look))
        for group, points in self.by_variant.items() if joined else ():
            name = f"front of {group} alone, while searching"
            look = Look(group.grey, line="solid", width=_THIN, steps="after", opacity=0.8)
            drawn.append(_series(pair, name, non_dominated_of(points, pair), look))
        return drawn

    def _predicted(self, pair: Pair, *, joined: bool) -> list[Series]:
        """Predicted networks, and a dashed line through the best of them where the front has a line."""
        # A predicted network may lack a metric that is computed.
        points = [p for p in self.report.predicted if all(metric.name in p.values for metric in pair)]
        look = Look(colours.PREDICTED, "diamond", hollow=True)
        drawn = [_series(pair, PREDICTED_NAME, points, look)]
        if joined:
            look = replace(look, line="dash", width=_THIN, steps="after")
            drawn.append(_series(pair, PREDICTED_NAME, non_dominated_of(points, pair), look))
        return drawn

    def _front(self, pair: Pair, *, joined: bool) -> list[Series]:
        """The panel's front, and in another colour the members of the joint front of several profiles that are not on it."""
        front, joint_only = front_of_pair(self.report, pair)
        name = (
            FRONT_NAME if not self.report.fronts else JOINT_NAME if front is self.report.front else PROFILE_FRONT_NAME
        )
        look = Look(colours.JOINT_FRONT if name == JOINT_NAME else colours.FRONT, size=9, errors=_MUTED)
        joint_look = replace(look, colour=colours.JOINT_FRONT)
        drawn = _by_variant(pair, JOINT_NAME, joint_only, joint_look)
        groups = by_variant(front)
        if joined:
            line = replace(look, line="solid", steps="after")
            if len(groups) == 1:
                look = line
            else:  # one line through all variants
                first = _name_with_variant(name, next(iter(groups)))
                drawn.append(_series(pair, first, front, replace(line, errors=0.0)))
        return [*drawn, *_by_variant(pair, name, front, look)]

    def _finetuned(self, pair: Pair) -> list[Series]:
        """A line from each fine-tuned network to a ring at its new values."""
        line = Look(colours.FINETUNED, line="solid")
        ring = Look(colours.FINETUNED, "circle", 14, hollow=True, errors=_MUTED)
        drawn = []
        for finetuning in self.finetunings:
            ends = [p for p in (finetuning.before, finetuning.after) if p is not None]
            points = [p for p in ends if all(m.name in p.values for m in pair)]
            if len(points) == 2:
                drawn.append(_series(pair, FINETUNED_NAME, points, line))
                drawn.append(_series(pair, FINETUNED_NAME, points[1:], ring))
        return drawn


def front_of_pair(report: RunReport, pair: Pair) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """The front that a panel shows, and the members of the joint front that are not on it.

    The front is that of the panel's one profile where several profiles have fronts, else the joint one.
    """
    front = report.fronts.get(_profile(pair), report.front)
    keys = {p.key for p in front}
    return front, tuple(p for p in report.front if p.key not in keys)


def is_joined(report: RunReport, pair: Pair) -> bool:
    """Returns True if a line connects a panel's front: it is non-dominated in the panel's two metrics alone."""
    profile = _profile(pair)
    objectives = of_profile(report.objectives, profile) if profile in report.fronts else report.objectives
    return set(pair) == set(objectives)


def non_dominated_of(points: Sequence[Point], pair: Pair) -> list[Point]:
    """The non-dominated of some points in two metrics, the cheapest first."""
    if not points:
        return []
    members = [points[i] for i in np.flatnonzero(non_dominated(minimised_of(points, pair))).tolist()]
    cost = pair[0]
    return sorted(members, key=lambda p: cost.sign * p.values[cost.name])


def by_variant(points: Sequence[Point]) -> Mapping[Group, Sequence[Point]]:
    """Points by their variant; one group where the run has a single one."""
    if not points or not (points[0].precision or points[0].runtime):
        return {Group(): points}
    runtimes = next((choice.options for choice in points[0].space.choices if choice.name == RUNTIME), ("",))
    places: dict[Group, list[int]] = {
        Group(precision, str(runtime), i > 0): [] for precision in _SYMBOLS for i, runtime in enumerate(runtimes)
    }
    for place, point in enumerate(points):
        places[Group(point.precision, point.runtime, point.runtime != runtimes[0])].append(place)
    return {group: take_points(points, positions) for group, positions in places.items() if positions}


def _profile(pair: Pair) -> str:
    """The one profile of two metrics; "" for none or two."""
    profiles = {metric.profile for metric in pair if metric.profile is not None}
    return profiles.pop() if len(profiles) == 1 else ""


def _name_with_variant(name: str, group: Group) -> str:
    return f"{name}, {group}" if str(group) else name


def _by_variant(pair: Pair, name: str, points: Sequence[Point], look: Look) -> list[Series]:
    """A series for each variant of some points, with its symbol."""
    return [
        _series(
            pair,
            _name_with_variant(name, group),
            members,
            replace(look, symbol=group.symbol, hollow=group.is_other_runtime),
        )
        for group, members in by_variant(points).items()
    ]


def _series(pair: Pair, name: str, points: Sequence[Point], look: Look) -> Series:
    x, y = pair
    values = [values_of(points, metric.name) * shown_scale(metric) for metric in (x, y)]
    errors = [errors_of(points, metric.name) * shown_scale(metric) for metric in (x, y)]
    return Series(name, values[0], values[1], look, errors[0], errors[1], points=points)


def _axis(report: RunReport, metric: Objective) -> Axis:
    if metric.of_task:
        return Axis(title_of(metric))
    values = np.concatenate([values_of(points, metric.name) for points in (report.evaluated, report.front)])
    return Axis.of_values(title_of(metric), values * shown_scale(metric))


def _guides(side: Literal["x", "y"], metric: Objective, limits: Sequence[Limit]) -> list[Guide]:
    return [
        Guide(side, limit.bound * shown_scale(metric), f"{_SIGNS[limit.sign]} {bound_text(metric, limit.bound)}")
        for limit in limits
        if limit.objective == metric
    ]


class _HoverTexts:
    """The hover texts of a report's points, in the subset of HTML that plotly reads; each is made once for all panels."""

    def __init__(self, report: RunReport, finetunings: Sequence[Finetuning]) -> None:
        self._columns, self._scored = report.columns, report.scored
        self._network_numbers = report.numbers
        self._numbers = {member.architecture: number for number, member in enumerate(report.front)}
        # Points hold mappings, so they have no hash.
        self._finetuned = {id(finetuning.after): finetuning for finetuning in finetunings}
        self._text_by_point: dict[int, tuple[Point, str]] = {}

    def __call__(self, point: Point) -> str:
        if id(point) not in self._text_by_point:
            self._text_by_point[id(point)] = point, self._text(point)
        return self._text_by_point[id(point)][1]

    def _text(self, point: Point) -> str:
        number, finetuned = self._numbers.get(point.architecture), self._finetuned.get(id(point))
        head = str(point.source) if number is None else f"number {number} on the front"
        if (network := self._network_numbers.get(point.key)) is not None:
            head = f"{head}, network {network}"
        if finetuned is not None:
            head = "\n".join([f"{FINETUNED_NAME} by {finetuned.run}", *finetuned.summary, head])
        elif point.source == "predicted":
            head = PREDICTED_NAME
        lines = [f"<b>{escape(line)}</b>" for line in head.split("\n")]
        for metric in self._columns:
            if metric.name in point.values:
                text = format_value(metric, point.values[metric.name], point.errors[metric.name])
                lines.append(f"{escape(metric.name)}  <b>{escape(text)}</b>")
        if point.test is not None:
            text = score_text(self._scored, point.test)
            lines.append(f"{escape(self._scored.name)} on the test part  <b>{escape(text)}</b>")
        lines_of_options = wrap("; ".join(option_texts(point.described, point.space.titles)), width=72)
        return "<br>".join([*lines, "", *map(escape, lines_of_options)])
