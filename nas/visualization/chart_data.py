"""What the two charts of a run show, whichever library draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from nas.analysis.finetuned_runs import Finetuning
from nas.analysis.formatting import bound_text, shown_scale, title_of
from nas.analysis.points import Point, Points, errors_of, minimised_of, taken, values_of
from nas.analysis.report import RunReport, broken_by, of_profile
from nas.analysis.selection import Limit
from nas.errors import NasError
from nas.problem.objectives import Objective
from nas.problem.pareto import non_dominated

LOG_SPAN = 8.0
"""An axis is logarithmic where its largest figure is at least so many times its smallest."""
CONVERGED = 0.99
"""The share of the last hypervolume at which a search is said to have come close."""

MANY = 1000
"""More points than this off the front are drawn as one image, and told of in short."""

TITLES = {
    "course": "Convergence by the clock",
    "predictors": "Predictions, and what was measured then",
    "genes": "Genes that matter, and what the front has",
}
"""Of the pictures of what a run tells beyond its front, by their names."""

# Okabe and Ito (2008): told apart with every common colour blindness, and by lightness.
FRONT_COLOUR = "#0072B2"
EVALUATED_COLOUR = "#9AA3AD"
PREDICTED_COLOUR = "#D55E00"
SMALLEST_COLOUR = "#009E73"
LARGEST_COLOUR = "#CC79A7"
FURTHER_COLOUR = "#E69F00"
# On a dark page, the lighter of the same palette.
FRONT_COLOUR_DARK = "#56B4E9"
PREDICTED_COLOUR_DARK = "#E69F00"
FURTHER_COLOUR_DARK = "#F0E442"

_SIGNS = {"<=": "≤", ">=": "≥", "<": "<", ">": ">"}

PREDICTED_NAME = "predicted, not measured"
FRONT_NAME = "front, measured (± error)"
PROFILE_FRONT_NAME = "front of the profile, measured (± error)"
JOINT_NAME = "joint front alone"
BREAKING_NAME = "measured, breaks a limit"
NEAREST_NAME = "nearest to the limits"
FURTHER_NAME = "trained further"

_PAIRED = 4
"""Up to so many objectives, every pair has a panel."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How points of a precision are drawn: matplotlib's marker, plotly's symbol, and a grey for those off the front."""

    marker: str
    symbol: str
    grey: str
    grey_dark: str


MARKS = {
    "": Mark("o", "circle", EVALUATED_COLOUR, EVALUATED_COLOUR),
    "fp32": Mark("o", "circle", EVALUATED_COLOUR, EVALUATED_COLOUR),
    "int8": Mark("s", "square", "#4D5560", "#D5DBE1"),
    "fp16": Mark("P", "cross", "#6F6455", "#C7BDAE"),
    "bf16": Mark("X", "x", "#556F64", "#AEC7BD"),
}
"""By `Point.precision`."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A pair of objectives: what is paid (x) and what is gained (y)."""

    x: Objective
    y: Objective


@dataclass(frozen=True, slots=True)
class Convergence:
    """How good the search was after each evaluation, (n,) each.

    Attributes:
        share: the hypervolume in per cent of its last value. With a single objective, the best figure so far in the unit
            shown, NaN while nothing keeps the limits.
        name: of the curve; title: of its axis.
        close_at: the evaluation after which `CONVERGED` of the last value was reached; None with a single objective.
    """

    evaluations: NDArray[np.int64]
    share: NDArray[np.float64]
    close_at: int | None
    name: str = "hypervolume"
    title: str = "Hypervolume (% of its last value)"

    @property
    def close_text(self) -> str:
        """What is written beside `close_at`."""
        return f"{100 * CONVERGED:g} % after {self.close_at} evaluations"

    @property
    def close_late(self) -> bool:
        """Whether `close_at` lies so far right that its text belongs on its left."""
        return self.close_at is not None and self.close_at > 0.6 * int(self.evaluations[-1])


def panels(report: RunReport) -> list[Panel]:
    """Pairs of objectives, costs along x and quality along y; then the limited figures that are no objectives, along x.

    Every pair of up to four objectives; of more, each with quality alone. A single objective has panels with limited
    figures only: none at all without those (its convergence shows how it went).

    Raises:
        NasError: nothing is measured yet.
    """
    if not report.evaluated:
        raise NasError(
            f"run {report.run!r} ({report.status}) has no measured network to plot; `nas resume {report.run}` goes on"
        )
    primary = report.primary
    # Along x: latencies first, as they are what users limit; quality never.
    ordered = sorted(report.objectives, key=lambda o: (o == primary, o.metric != "latency_ms"))
    pairs = sorted(combinations(ordered, 2), key=lambda pair: pair[1] != primary)
    if len(ordered) > _PAIRED:
        pairs = [pair for pair in pairs if primary in pair]
    limited = [(figure, primary) for figure in report.columns if figure not in report.objectives]
    return [Panel(x, y) for x, y in [*pairs, *limited]]


@dataclass(frozen=True, slots=True)
class PanelFront:
    """What a panel shows as the front.

    Attributes:
        points: the members, along the report's order.
        others: members of the joint front that are none of these.
        joined: whether a line through them is their staircase: the panel's two objectives are all that they are led in.
    """

    name: str
    points: tuple[Point, ...]
    others: tuple[Point, ...]
    joined: bool


def front_in(report: RunReport, panel: Panel) -> PanelFront:
    """The front in a panel: that of the panel's one profile where several have fronts, else the joint one."""
    profiles = {o.profile for o in (panel.x, panel.y)} - {None}
    found = [profile for profile in report.fronts if {profile} == profiles]
    if not found:
        joined = {panel.x, panel.y} == set(report.objectives)
        return PanelFront(FRONT_NAME, report.front, (), joined)
    own = report.fronts[found[0]]
    keys = {p.key for p in own}
    others = tuple(p for p in report.front if p.key not in keys)
    joined = {panel.x, panel.y} == set(of_profile(report.objectives, found[0]))
    return PanelFront(PROFILE_FRONT_NAME, own, others, joined)


def figures(points: Sequence[Point], objective: Objective) -> NDArray[np.float64]:
    """The points' figures in the unit shown, (n,)."""
    return values_of(points, objective.name) * shown_scale(objective)


def errors(points: Sequence[Point], objective: Objective) -> NDArray[np.float64]:
    """The points' errors in the unit shown, (n,)."""
    return errors_of(points, objective.name) * shown_scale(objective)


def placeable(points: Sequence[Point], panel: Panel) -> list[Point]:
    """The points that have both of the panel's figures (a predicted one may lack an exact figure)."""
    return [p for p in points if panel.x.name in p.values and panel.y.name in p.values]


def finetuned_in(finetunings: Sequence[Finetuning], panel: Panel) -> list[tuple[Finetuning, Point, Point]]:
    """Those that a panel can show, each with its network before and after."""
    pairs = [(one, one.before, one.after) for one in finetunings]
    return [
        (one, before, after)
        for one, before, after in pairs
        if before is not None and after is not None and len(placeable([before, after], panel)) == 2
    ]


def non_dominated_of(points: Sequence[Point], panel: Panel) -> list[Point]:
    """The non-dominated of some points in a panel's two objectives, along x."""
    if not points:
        return []
    kept = [points[i] for i in np.flatnonzero(non_dominated(minimised_of(points, (panel.x, panel.y)))).tolist()]
    return sorted(kept, key=lambda p: p.values[panel.x.name])


def is_log(report: RunReport, objective: Objective) -> bool:
    """Whether the objective's axis is logarithmic: a cost whose measured figures span at least `LOG_SPAN` times."""
    if objective.metric == "accuracy":
        return False
    least, most = _span(report, objective)
    return least > 0 and most / least >= LOG_SPAN


def log_ticks(report: RunReport, objective: Objective) -> list[float]:
    """Ticks of a logarithmic axis at 1, 2 and 5 times the powers of ten, from below its figures to above them."""
    least, most = _span(report, objective)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    return [digit * 10.0**power for power in powers for digit in (1, 2, 5)]


def _span(report: RunReport, objective: Objective) -> tuple[float, float]:
    """The smallest and the largest measured figure, in the unit shown."""
    found = np.concatenate([figures(points, objective) for points in (report.evaluated, report.front)])
    return float(found.min()), float(found.max())


def convergence(report: RunReport) -> Convergence | None:
    """How the hypervolume grew, or the best figure of a single objective; None while there is none above 0 to draw."""
    if not report.hypervolume:
        return None
    if len(report.objectives) == 1:
        return _best_so_far(report)
    numbers = np.array([n for n, _ in report.hypervolume], dtype=np.int64)
    volumes = np.array([volume for _, volume in report.hypervolume], dtype=np.float64)
    if volumes[-1] <= 0:
        return None
    share = 100.0 * volumes / volumes[-1]
    return Convergence(numbers, share, int(numbers[np.argmax(share >= 100.0 * CONVERGED)]))


def _best_so_far(report: RunReport) -> Convergence | None:
    """The best figure of a single objective after each evaluation, of those within the limits; None without any."""
    objective = report.primary
    numbers = np.array([n for n, _ in report.hypervolume], dtype=np.int64)
    kept = broken_by(report.evaluated, report.constraints) == 0
    if not kept.any():
        return None
    values = objective.sign * figures(report.evaluated, objective)
    best = np.minimum.accumulate(np.where(kept, values, np.inf))
    shown = objective.sign * np.where(np.isfinite(best), best, np.nan)
    return Convergence(numbers, shown, None, "best so far", f"{title_of(objective)}, best so far")


def by_precision(points: Sequence[Point]) -> dict[str, Sequence[Point]]:
    """Points by their precision; one group, "", where the run has a single one."""
    if len(points) and not points[0].precision:
        return {"": points}
    places: dict[str, list[int]] = {mark: [] for mark in MARKS}
    for place, point in enumerate(points):
        places[point.precision].append(place)
    return {mark: taken(points, own) for mark, own in places.items() if own}


def named(text: str, precision: str) -> str:
    """A series' name with its precision, where there are several."""
    return f"{text}, {precision}" if precision else text


def alone(precision: str) -> str:
    """The name of the line through a precision's own front."""
    return f"front of {precision} alone, while searching"


def precision_fronts(report: RunReport, panel: Panel) -> dict[str, list[Point]]:
    """What each precision alone would have as its front, by search figures along x; empty for a single precision."""
    groups = by_precision(report.evaluated)
    return {name: non_dominated_of(points, panel) for name, points in groups.items()} if len(groups) > 1 else {}


def limits_on(limits: Sequence[Limit], objective: Objective) -> list[tuple[float, str]]:
    """Where the limits on one objective lie on its axis, in the unit shown, and how they read."""
    found = [limit for limit in limits if limit.objective == objective]
    return [(x.bound * shown_scale(objective), f"{_SIGNS[x.sign]} {bound_text(objective, x.bound)}") for x in found]


@dataclass(frozen=True, slots=True)
class Unshown:
    """The evaluated points that no other series shows, on no front and no anchor: within all limits, and breaking one."""

    muted: Points
    breaking: Points


def unshown(report: RunReport) -> Unshown:
    """The same for every panel."""
    fronts = [p for front in (report.front, *report.fronts.values()) for p in front]
    shown = {p.key for p in [*fronts, *report.anchors.values()]}
    found = report.evaluated.take([place for place, key in enumerate(report.evaluated.keys) if key not in shown])
    breaks = broken_by(found, report.constraints) > 0
    return Unshown(found.take(np.flatnonzero(~breaks)), found.take(np.flatnonzero(breaks)))


def heading(report: RunReport) -> tuple[str, str]:
    """The run's title, and a line of its profiles, size and state."""
    title = report.run if report.run.startswith(report.name) else f"{report.name} · {report.run}"  # ids are NAME-N
    profiles = ", ".join(report.profiles)
    found = f"{len(report.front)} on the front"
    if report.nearest is not None and report.nearest.miss.broken:
        found = "none keeps the limits"
    count = f"{report.n_evaluations} networks evaluated, {found}"
    return title, " · ".join(part for part in (profiles, count, str(report.status)) if part)
