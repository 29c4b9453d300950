"""Draws charts with matplotlib, without its global state."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from nas.results.plots.charts import Axis, Bars, Cells, Chart, Guide, Mark, Panel, Picture, Series

INK, SOFT, RULE = "#22262B", "#5F6770", "#E4E7EA"
STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a name may contain a dollar sign
    "svg.hashsalt": "subnet-nas",  # equal figures give equal bytes
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#B9BFC6",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    # Titles stay right above their axes: to find a place, matplotlib would measure all tick labels again. So tick labels must
    # not have a common factor or offset, which would be written there.
    "axes.titley": 1.0,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
}
_HEAD_INCHES = 0.62
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
"""Matplotlib's styles by plotly's names."""
_LINES: dict[str, Any] = {"": "none", "solid": "-", "dash": (0, (4, 2.5)), "dot": ":"}
_STEPS = {"": "default", "after": "steps-post", "before": "steps-pre"}
_GUIDE: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (5, 4)), "zorder": 1.5}
_POINTS_A_PIXEL = 0.66
"""Points of a symbol's size, for a CSS pixel."""
_LINE_POINTS_A_PIXEL = 0.8
_BAND_OPACITY = 0.16
_SPAN = "#EAF2F8"
_EMPTY_CELL = "#A9B0B8"
_LABEL_INCHES, _LETTER_INCHES = 0.55, 0.076
"""The width of a legend entry without its text, and that of a letter: as many entries as fit are side by side."""
_BARS = 170
"""Error bars that are one line: of longer ones, matplotlib blurs what lies between pixels (`snap`, 1,024 vertices)."""


def figure_of(chart: Chart) -> Figure:
    """The figure of a chart, with its heading above the panels, and one legend of all panels below them."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=chart.size)
        n_rows = math.ceil(len(chart.panels) / chart.n_columns)
        axes = figure.subplots(n_rows, chart.n_columns, squeeze=False).ravel()
        _add_heading(figure, chart)  # first: its layout decides where a colour bar goes
        artists: dict[int, Artist] = {}
        for panel, axis in zip(chart.panels, axes, strict=False):
            artists |= {id(mark): _draw(axis, mark) for mark in panel.marks}
            _draw_remarks(axis, panel)
            _set_axis(axis, "x", panel.x, is_small=len(axes) > 1)
            _set_axis(axis, "y", panel.y, is_small=len(axes) > 1)
        for spare in axes[len(chart.panels) :]:
            spare.set_visible(False)
        _add_legend(figure, [(artists[id(mark)], mark.name) for mark in chart.legend.values()])
    return figure


def _add_heading(figure: Figure, chart: Chart) -> None:
    """Writes the title and the line below it at the top left, above the axes."""
    height = figure.get_figheight()
    figure.text(0.015, 1 - 0.14 / height, chart.title, va="top", fontsize=13, fontweight="bold")
    figure.text(0.015, 1 - 0.42 / height, chart.line, va="top", color=SOFT)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, rect=(0, 0, 1, 1 - _HEAD_INCHES / height)))


def _add_legend(figure: Figure, entries: list[tuple[Artist, str]]) -> None:
    if not entries:
        return
    artists, names = zip(*entries, strict=True)
    entry_inches = _LABEL_INCHES + _LETTER_INCHES * max(map(len, names))
    n_columns = min(5, max(1, int(figure.get_figwidth() / entry_inches)))
    figure.legend(artists, names, loc="outside lower center", ncols=n_columns, columnspacing=1.8)


def _set_axis(axis: Axes, side: str, shown: Axis, *, is_small: bool) -> None:
    """Sets the scale, the title and the ticks of a side ("x" or "y"); of a small panel, at most seven ticks: each takes as long
    to draw as a line of text."""
    horizontal = side == "x"
    side_axis = axis.xaxis if horizontal else axis.yaxis
    if shown.is_log:
        # Through the axes: an axis alone has no public way to change its scale.
        (axis.set_xscale if horizontal else axis.set_yscale)("log")
        side_axis.set_minor_locator(NullLocator())
    if shown.is_empty:
        side_axis.set_major_locator(NullLocator())
    elif shown.ticks:
        side_axis.set_major_locator(FixedLocator(shown.ticks))
    elif shown.is_integer:
        side_axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 4, 5, 10]))
    elif is_small:
        side_axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 4, 5, 10]))
    texts = FixedFormatter(shown.labels) if shown.labels else FuncFormatter(lambda value, _: f"{value:.10g}")
    side_axis.set_major_formatter(texts)
    if shown.is_rows:
        axis.tick_params(axis="y", length=0, labelsize=8)
        axis.grid(visible=False, axis="y")
    elif horizontal and shown.labels:
        axis.tick_params(axis="x", length=0, labelsize=8, rotation=90)
    if shown.range != (None, None):
        start, end = shown.range
        (axis.set_xlim if horizontal else axis.set_ylim)(start, end)
    side_axis.set_label_text(shown.title)
    side_axis.set_visible(not shown.is_hidden)  # else its ticks would be laid out and drawn


def _draw(axis: Axes, mark: Mark) -> Artist:
    """Draws a mark; returns what stands for it in the legend."""
    match mark:
        case Series():
            return _draw_series(axis, mark)
        case Bars():
            rows = range(len(mark.lengths))
            return axis.barh(
                rows, mark.lengths, left=mark.starts, color=mark.colour.light, height=0.7, label=mark.name
            ).patches[0]
        case Cells():
            return _draw_cells(axis, mark)
        case Picture():
            return _draw_picture(axis, mark)


def _draw_series(axis: Axes, series: Series) -> Artist:
    look = series.look
    colour, thin = look.colour.light, look.symbol == "x-thin"
    if look.errors:
        _draw_errors(axis, series)
    if series.band is not None:
        step: Any = {"after": "post", "before": "pre"}.get(look.steps)
        axis.fill_between(series.x, *series.band, step=step, color=colour, alpha=_BAND_OPACITY, linewidth=0)
    for x, y, text in zip(series.x, series.y, series.labels, strict=False):
        place: dict[str, Any] = {"xytext": (0, -10), "textcoords": "offset points", "ha": "center", "va": "top"}
        axis.annotate(text, (x, y), **place, fontsize=9, color=colour)
    (line,) = axis.plot(
        series.x,
        series.y,
        marker=_MARKERS[look.symbol],
        linestyle=_LINES[look.line],
        drawstyle=_STEPS[look.steps],
        color=colour,
        alpha=look.opacity,
        linewidth=_LINE_POINTS_A_PIXEL * look.width,
        markersize=_POINTS_A_PIXEL * look.size,
        markerfacecolor="none" if look.hollow else colour,
        markeredgecolor=colour if look.hollow or thin else "white",
        markeredgewidth=1 if thin else min(1.8, 0.13 * look.size) if look.hollow else 0.8 if look.opacity == 1 else 0,
        label=series.name,
        rasterized=series.is_cloud,
        clip_on=series.is_clipped,
        zorder=2 if series.is_clipped else 3,  # over the axes
    )
    return line


def _draw_errors(axis: Axes, series: Series) -> None:
    """A cross at each point, with arms as long as its errors.

    The crosses of many points are one line with gaps, for `Axes.errorbar` makes a path of each bar, which of hundreds of
    points takes as long as everything else that is drawn.
    """
    no_errors = np.zeros(len(series.x))
    for start in range(0, len(series.x), _BARS):
        some = slice(start, start + _BARS)
        x, y = series.x[some], series.y[some]
        dx, dy = ((no_errors if errors is None else errors)[some] for errors in (series.x_errors, series.y_errors))
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


def _draw_cells(axis: Axes, cells: Cells) -> Artist:
    n_rows, n_columns = cells.shares.shape
    edges = [np.arange(n + 1) - 0.5 for n in (n_columns, n_rows)]
    look: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "edgecolors": "white", "linewidth": 1.1}
    largest = None if cells.scale_title else 115  # beside a dark cell, the text of an even darker one could not be read
    drawn = axis.pcolormesh(*edges, 100 * cells.shares, vmax=largest, **look)
    axis.grid(visible=False)
    if cells.scale_title:
        axis.figure.colorbar(drawn, ax=axis, label=cells.scale_title)
    for row, texts in enumerate(cells.texts):
        for column, text in enumerate(texts):
            share = cells.shares[row, column]
            colour = "white" if share > 0.6 else INK if share > 0 else _EMPTY_CELL
            # A text within its cell needs no place in the layout, which would take long to measure for each of them.
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour, in_layout=False)
    for row, text in enumerate(cells.remarks):
        axis.text(n_columns - 0.4, row, text, va="center", fontsize=7, color=SOFT, clip_on=False)
    return drawn


def _draw_picture(axis: Axes, picture: Picture) -> Artist:
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    height, width = picture.pixels.shape[:2]
    drawn = axis.imshow(picture.pixels, extent=(0, width, height, 0), interpolation="nearest")
    for outline in picture.outlines[::-1]:  # the most important on top
        (left, top, right, bottom), colour = outline.corners, tuple(level / 255 for level in outline.colour)
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.3))
        is_right = left > 0.55 * width
        place: dict[str, Any] = {"ha": "right" if is_right else "left", "va": "bottom" if top > 0.1 * height else "top"}
        text = axis.text(
            right if is_right else left,
            top,
            outline.text,
            fontsize=6.5,
            color="white",
            clip_on=True,
            in_layout=False,
            **place,
        )
        text.set_path_effects([Stroke(linewidth=1.6, foreground=INK), Normal()])
    return drawn


def _draw_remarks(axis: Axes, panel: Panel) -> None:
    """Draws what explains a panel: shaded spans, guides, its title and its note."""
    for start, end in panel.spans:
        axis.axvspan(start, end, color=_SPAN, linewidth=0, zorder=0)
    for guide in panel.guides:
        _draw_guide(axis, guide)
    axis.set_title(panel.title, loc="left", color=SOFT)
    if panel.note:
        axis.text(0.5, 0.5, panel.note, transform=axis.transAxes, ha="center", va="center", color=SOFT, fontsize=9)


def _draw_guide(axis: Axes, guide: Guide) -> None:
    label: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "color": INK}
    if guide.side == "y":
        axis.axhline(guide.at, **_GUIDE)
        label |= {"xy": (0.99, guide.at), "xycoords": ("axes fraction", "data"), "xytext": (0, 4), "ha": "right"}
    else:
        axis.axvline(guide.at, **_GUIDE)
        label |= {"xy": (guide.at, 0.03), "xycoords": ("data", "axes fraction"), "va": "bottom"}
        if guide.text_side == "along":
            label |= {"rotation": 90, "xytext": (4, 0)}
        else:
            is_left = guide.text_side == "left"
            label |= {"xytext": (-6, 0), "ha": "right"} if is_left else {"xytext": (6, 0), "ha": "left"}
    axis.annotate(guide.text, **label)
