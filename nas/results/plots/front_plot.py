"""The front and the convergence of a run as matplotlib figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from nas.results.analysis.report import RunReport
from nas.results.plots import colours
from nas.results.plots.chart_data import convergence, heading
from nas.results.plots.front_panels import Axis, Panel, Series
from nas.results.plots.style import INK, SOFT, add_heading, thin_ticks

_MARKERS = {
    "": "",
    "circle": "o",
    "square": "s",
    "cross": "P",
    "x": "X",
    "diamond": "D",
    "triangle-down": "v",
    "triangle-up": "^",
    "star": "*",
    "x-thin": "x",
}
"""By plotly's names."""
_LINES: dict[str, Any] = {"": "none", "solid": "-", "dash": (0, (4, 2.5))}
_POINTS_A_PIXEL = 0.66
_SHORT_LABEL = 32
"""Up to this many characters, three legend entries fit side by side below a single panel."""
_BARS = 170
"""Error bars that are one line: of longer ones, matplotlib blurs what lies between pixels (`snap`, 1,024 vertices)."""


def front_figure(report: RunReport, panels: Sequence[Panel]) -> Figure | None:
    """The front among everything measured and predicted; None without panels."""
    if not panels:
        return None
    n_columns = 2 if len(panels) == 4 else min(3, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    size = (8.0, 5.4) if len(panels) == 1 else (4.6 * n_columns, 4.1 * n_rows + 1.2)
    figure = Figure(figsize=size)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for panel, axis in zip(panels, axes, strict=False):
        if len(panels) > 1:
            thin_ticks(axis)
        for series in panel.series:
            _draw_series(axis, series)
        for side, shown in (("x", panel.x), ("y", panel.y)):
            _set_axis(axis, side, shown)
    for spare in axes[len(panels) :]:
        spare.set_visible(False)
    _finish(figure, report)
    return figure


def convergence_figure(report: RunReport) -> Figure | None:
    """The growth of the hypervolume with the evaluations; None while there is none above 0."""
    curve = convergence(report)
    if curve is None:
        return None
    figure = Figure(figsize=(8.0, 4.4))
    axis = figure.subplots()
    style: dict[str, Any] = {"drawstyle": "steps-post", "color": colours.FRONT.light, "linewidth": 2}
    axis.plot(curve.evaluations, curve.values, **style, label=curve.name)
    first = slice(len(report.anchors))
    axis.plot(
        curve.evaluations[first],
        curve.values[first],
        "o",
        color=colours.SMALLEST.light,
        markersize=7,
        markeredgecolor="white",
        label="smallest and largest network",
    )
    if curve.close_at is not None:
        axis.axvline(curve.close_at, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        side, shift = ("right", -6) if curve.close_late else ("left", 6)
        axis.annotate(
            curve.close_text,
            (curve.close_at, 0.04),
            xycoords=("data", "axes fraction"),
            xytext=(shift, 0),
            textcoords="offset points",
            ha=side,
            color=SOFT,
        )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("Evaluations")
    axis.set_ylabel(curve.title)
    _finish(figure, report)
    return figure


def _finish(figure: Figure, report: RunReport) -> None:
    """Adds the title above and one legend of all panels below, and leaves space for both."""
    add_heading(figure, *heading(report))
    entries: dict[str, Any] = {}
    for axis in figure.axes:
        handles, labels = axis.get_legend_handles_labels()
        for label, handle in dict(zip(labels, handles, strict=True)).items():  # the last of a name in the first panel
            entries.setdefault(label, handle)
    order = sorted(entries, key=lambda label: "± error" not in label)  # what matters most first
    n_columns = 5 if figure.get_figwidth() > 12 else 3 if max(map(len, order)) <= _SHORT_LABEL else 2
    figure.legend(
        [entries[label] for label in order], order, loc="outside lower center", ncols=n_columns, columnspacing=1.8
    )


def _draw_series(axis: Axes, series: Series) -> None:
    look = series.look
    colour, thin = look.colour.light, look.symbol == "x-thin"
    if look.errors:
        _draw_errors(axis, series)
    axis.plot(
        series.x,
        series.y,
        marker=_MARKERS[look.symbol],
        linestyle=_LINES[look.line],
        drawstyle="steps-post" if look.steps else "default",
        color=colour,
        alpha=look.opacity,
        linewidth=1.6 if look.line == "solid" and look.opacity == 1 else 1.1,
        markersize=_POINTS_A_PIXEL * look.size,
        markerfacecolor="none" if look.hollow else colour,
        markeredgecolor=colour if look.hollow or thin else "white",
        markeredgewidth=1 if thin else 0.13 * look.size if look.hollow else 0.8 if look.opacity == 1 else 0,
        label=series.name,
        rasterized=series.is_cloud,
    )


def _draw_errors(axis: Axes, series: Series) -> None:
    """A cross at each point, with arms as long as its errors.

    The crosses of many points are one line with gaps, for `Axes.errorbar` makes a path of each bar, which of hundreds of
    points takes as long as everything else that is drawn.
    """
    for start in range(0, len(series.x), _BARS):
        some = slice(start, start + _BARS)
        x, y, dx, dy = series.x[some], series.y[some], series.x_errors[some], series.y_errors[some]
        gaps = np.full(len(x), np.nan)
        across, along = np.column_stack([x - dx, x + dx, gaps]), np.column_stack([y - dy, y + dy, gaps])
        axis.plot(
            np.concatenate([across.ravel(), x.repeat(3)]),
            np.concatenate([y.repeat(3), along.ravel()]),
            "-",
            color=series.look.colour.light,
            alpha=series.look.errors,
            linewidth=1.1,
            solid_capstyle="butt",
        )


def _set_axis(axis: Axes, side: str, shown: Axis) -> None:
    """Sets the scale and the title of a side ("x" or "y"), and draws the limits on it."""
    horizontal = side == "x"
    side_axis = axis.xaxis if horizontal else axis.yaxis
    if shown.ticks:
        # Through the axes: an axis alone has no public way to change its scale.
        (axis.set_xscale if horizontal else axis.set_yscale)("log")
        side_axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        side_axis.set_minor_formatter(NullFormatter())
    side_axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    side_axis.set_label_text(shown.title)
    for place, text in shown.limits:
        line: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (5, 4)), "zorder": 1.5}
        label: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "color": INK}
        if horizontal:
            axis.axvline(place, **line)
            label |= {"xy": (place, 0.02), "xycoords": ("data", "axes fraction"), "xytext": (4, 0)}
            label |= {"rotation": 90, "va": "bottom"}
        else:
            axis.axhline(place, **line)
            label |= {"xy": (0.99, place), "xycoords": ("axes fraction", "data"), "xytext": (0, 4), "ha": "right"}
        axis.annotate(text, **label)
