"""The charts of a run as PNG and SVG (matplotlib, no global state)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from nas.analysis.finetuned_runs import Finetuning
from nas.analysis.formatting import title_of
from nas.analysis.insight import Insight
from nas.analysis.points import Point
from nas.analysis.report import RunReport
from nas.analysis.selection import Limit
from nas.visualization import chart_data as charts
from nas.visualization.drawing import Makers, draw
from nas.visualization.insight_plots import insight_makers
from nas.visualization.style import INK, SOFT, add_heading, thin_ticks

_CROSSES = 170
"""Points whose errors are one line: of longer ones, matplotlib blurs what lies between pixels (`snap`, 1,024 vertices)."""
_LONGEST = ("predictors", "genes", "front")
"""The pictures that take longest to draw."""


def draw_plots(
    report: RunReport,
    limits: Sequence[Limit] = (),
    insight: Insight | None = None,
    further: Sequence[Finetuning] = (),
    *,
    processes: int = 1,
) -> dict[str, bytes]:
    """``front`` and ``convergence`` as ``.png`` and ``.svg``, and with the run's insight its pictures (`charts.TITLES`).

    Those with nothing to show are left out.

    Args:
        further: what trained the run's networks further, drawn beside the front.
        processes: how many draw, see `draw`.

    Raises:
        NasError: nothing is measured yet.
    """
    makers: Makers = {
        "front": partial(front_figure, report, limits=limits, further=further),
        "convergence": partial(convergence_figure, report),
    }
    if insight is not None:
        makers = {**makers, **insight_makers(report, insight)}
    return draw(makers, processes=processes, longest=_LONGEST)


def front_figure(
    report: RunReport, *, limits: Sequence[Limit] = (), further: Sequence[Finetuning] = ()
) -> Figure | None:
    """The front among everything measured and predicted, one panel a pair of figures; None for a lone objective.

    Raises:
        NasError: as `charts.panels`.
    """
    panels = charts.panels(report)
    if not panels:
        return None
    n_columns = 2 if len(panels) == 4 else min(3, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    size = (8.0, 5.4) if len(panels) == 1 else (4.6 * n_columns, 4.1 * n_rows + 1.2)
    figure = Figure(figsize=size)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    unshown = charts.unshown(report)
    for panel, axis in zip(panels, axes, strict=False):
        if len(panels) > 1:
            thin_ticks(axis)
        _draw_panel(axis, report, panel, unshown, limits)
        _draw_further(axis, panel, further)
    for spare in axes[len(panels) :]:
        spare.set_visible(False)
    _finish(figure, report, n_columns=5 if n_columns == 3 else 3)
    return figure


def convergence_figure(report: RunReport) -> Figure | None:
    """How the hypervolume grew with the evaluations; None while there is none above 0."""
    curve = charts.convergence(report)
    if curve is None:
        return None
    figure = Figure(figsize=(8.0, 4.4))
    axis = figure.subplots()
    axis.plot(
        curve.evaluations,
        curve.share,
        drawstyle="steps-post",
        color=charts.FRONT_COLOUR,
        linewidth=2,
        label=curve.name,
    )
    n_anchors = len(report.anchors)
    axis.plot(
        curve.evaluations[:n_anchors],
        curve.share[:n_anchors],
        "o",
        color=charts.SMALLEST_COLOUR,
        markersize=7,
        markeredgecolor="white",
        label="smallest and largest network",
    )
    if curve.close_at is not None:
        axis.axvline(curve.close_at, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(
            curve.close_text,
            (curve.close_at, 0.04),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if curve.close_late else 6, 0),
            textcoords="offset points",
            ha="right" if curve.close_late else "left",
            color=SOFT,
        )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("Evaluations")
    axis.set_ylabel(curve.title)
    _finish(figure, report, n_columns=2)
    return figure


def _finish(figure: Figure, report: RunReport, *, n_columns: int) -> None:
    """Adds the title above and one legend of all panels below, and leaves room for both."""
    add_heading(figure, *charts.heading(report))
    entries: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    order = sorted(entries, key=lambda label: not label.startswith("front"))  # what matters most first
    figure.legend(
        [entries[label] for label in order],
        order,
        loc="outside lower center",
        ncols=n_columns,
        columnspacing=1.8,
    )


def _draw_panel(
    axis: Axes, report: RunReport, panel: charts.Panel, unshown: charts.Unshown, limits: Sequence[Limit]
) -> None:
    front = charts.front_in(report, panel)
    joined = front.joined
    if unshown.breaking:
        axis.plot(
            *_xy(unshown.breaking, panel), "x", color=charts.EVALUATED_COLOUR, markersize=4.5, alpha=0.7,
            label=charts.BREAKING_NAME, zorder=1.9,
        )  # fmt: skip
    predicted = charts.placeable(report.predicted, panel)
    for precision, points in charts.by_precision(unshown.muted).items():
        mark = charts.MARKS[precision]
        axis.plot(
            *_xy(points, panel),
            mark.marker,
            color=mark.grey,
            markersize=4.5,
            alpha=0.7,
            markeredgewidth=0,
            label=charts.named("measured", precision),
            rasterized=len(points) > charts.MANY,
            zorder=2,
        )
    for precision, points in charts.precision_fronts(report, panel).items() if joined else ():
        grey = charts.MARKS[precision].grey
        name = charts.alone(precision)
        axis.plot(*_xy(points, panel), "-", color=grey, linewidth=1, alpha=0.8, label=name, zorder=1.8)
    if predicted:
        _draw_predicted(axis, predicted, panel, joined=joined)
    _draw_front(axis, front, panel)
    for name, marker, colour in (("smallest", "v", charts.SMALLEST_COLOUR), ("largest", "^", charts.LARGEST_COLOUR)):
        points = [point for anchor, point in report.anchors.items() if anchor == name]
        axis.plot(
            *_xy(points, panel),
            marker,
            color=colour,
            markersize=10,
            markeredgecolor="white",
            markeredgewidth=1,
            label=f"{name} network",
            zorder=5,
        )
    if report.nearest is not None and report.nearest.miss.broken:
        axis.plot(
            *_xy([report.nearest.point], panel), "*", color=INK, markersize=13, markeredgecolor="white",
            markeredgewidth=1, label=charts.NEAREST_NAME, zorder=6,
        )  # fmt: skip
    _set_axes(axis, report, panel)
    _draw_limits(axis, panel, limits)


def _draw_front(axis: Axes, front: charts.PanelFront, panel: charts.Panel) -> None:
    """The panel's front with its errors; members of the joint front that are none of it are paler."""
    if front.others:
        axis.plot(
            *_xy(front.others, panel), "o", color=charts.FRONT_COLOUR, alpha=0.45, markersize=5, markeredgewidth=0,
            label=charts.JOINT_NAME, zorder=3.5,
        )  # fmt: skip
    _draw_errors(axis, front.points, panel, color=charts.FRONT_COLOUR, zorder=4)
    if front.joined:
        axis.plot(*_xy(front.points, panel), "-", color=charts.FRONT_COLOUR, linewidth=1.6, zorder=4)
    for precision, points in charts.by_precision(front.points).items():
        axis.plot(
            *_xy(points, panel),
            charts.MARKS[precision].marker,
            color=charts.FRONT_COLOUR,
            linestyle="-" if front.joined and not precision else "none",
            linewidth=1.6,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.8,
            label=charts.named(front.name, precision),
            zorder=4.1,
        )


def _draw_predicted(axis: Axes, points: Sequence[Point], panel: charts.Panel, *, joined: bool) -> None:
    axis.plot(
        *_xy(points, panel),
        "D",
        markerfacecolor="none",
        markeredgecolor=charts.PREDICTED_COLOUR,
        markersize=4.5,
        markeredgewidth=1,
        label=None if joined else charts.PREDICTED_NAME,
        zorder=3,
    )
    if joined:  # one legend entry, with its dashes
        axis.plot(
            *_xy(charts.non_dominated_of(points, panel), panel),
            "D",
            linestyle=(0, (4, 2.5)),
            color=charts.PREDICTED_COLOUR,
            markerfacecolor="none",
            markersize=4.5,
            markeredgewidth=1,
            linewidth=1.1,
            label=charts.PREDICTED_NAME,
            zorder=3,
        )


def _draw_further(axis: Axes, panel: charts.Panel, further: Sequence[Finetuning]) -> None:
    """A line from each network to what further training made of it, a ring, in which a point close by is still seen."""
    for _, before, after in charts.finetuned_in(further, panel):
        axis.plot(
            *_xy([before, after], panel), "o-", color=charts.FURTHER_COLOUR, markevery=[1], markersize=10,
            markerfacecolor="none", markeredgewidth=2, linewidth=2, label=charts.FURTHER_NAME, zorder=5.5,
        )  # fmt: skip
        _draw_errors(axis, [after], panel, color=charts.FURTHER_COLOUR, zorder=5.4)


def _draw_errors(axis: Axes, points: Sequence[Point], panel: charts.Panel, *, color: str, zorder: float) -> None:
    """A cross at each point, as far as its errors reach.

    Those of many points are one line with gaps, for `Axes.errorbar` makes a path of each bar, which of hundreds of points
    takes as long as everything else that is drawn.
    """
    for start in range(0, len(points), _CROSSES):
        some = points[start : start + _CROSSES]
        x, y = _xy(some, panel)
        dx, dy, gaps = charts.errors(some, panel.x), charts.errors(some, panel.y), np.full(len(some), np.nan)
        across, along = np.column_stack([x - dx, x + dx, gaps]), np.column_stack([y - dy, y + dy, gaps])
        axis.plot(
            np.concatenate([across.ravel(), x.repeat(3)]), np.concatenate([y.repeat(3), along.ravel()]), "-", color=color,
            linewidth=1.1, solid_capstyle="butt", zorder=zorder,
        )  # fmt: skip


def _set_axes(axis: Axes, report: RunReport, panel: charts.Panel) -> None:
    for side, objective in ((axis.xaxis, panel.x), (axis.yaxis, panel.y)):
        if charts.is_log(report, objective):
            # Through the axes: an axis alone has no public way to change its scale.
            (axis.set_xscale if side is axis.xaxis else axis.set_yscale)("log")
            side.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            side.set_minor_formatter(NullFormatter())
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlabel(title_of(panel.x))
    axis.set_ylabel(title_of(panel.y))


def _draw_limits(axis: Axes, panel: charts.Panel, limits: Sequence[Limit]) -> None:
    for place, text in charts.limits_on(limits, panel.x):
        axis.axvline(place, color=INK, linewidth=1, linestyle=(0, (5, 4)), zorder=1.5)
        axis.annotate(
            text,
            (place, 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            rotation=90,
            va="bottom",
            fontsize=9,
            color=INK,
        )
    for place, text in charts.limits_on(limits, panel.y):
        axis.axhline(place, color=INK, linewidth=1, linestyle=(0, (5, 4)), zorder=1.5)
        axis.annotate(
            text,
            (0.99, place),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=INK,
        )


def _xy(points: Sequence[Point], panel: charts.Panel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return charts.figures(points, panel.x), charts.figures(points, panel.y)
