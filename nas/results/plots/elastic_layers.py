"""The plot of `nas inspect --plot`: multiply-accumulates by layer, of the smallest and the largest network."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from nas.results.plots import colours
from nas.results.plots.style import SOFT, STYLE, add_heading

Row = tuple[str, int, int]
"""A layer's name, and its multiply-accumulates in the smallest and in the largest network."""
_REMOVABLE = "#A9CDE6"
_INCHES_A_ROW, _INCHES_AROUND = 0.24, 1.9


def layers_figure(rows: Sequence[Row], *, title: str, line: str) -> Figure:
    """The figure: a bar for each layer, from the first at the top to the last."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, _INCHES_AROUND + _INCHES_A_ROW * len(rows)))
        axis = figure.subplots()
        positions = range(len(rows))
        smallest = [small for _, small, _ in rows]
        removable = [large - small for _, small, large in rows]
        fixed = [small if small == large else 0 for _, small, large in rows]
        shared = [small if small != large else 0 for _, small, large in rows]
        axis.barh(positions, shared, color=colours.FRONT.light, label="in every network", height=0.68)
        axis.barh(positions, fixed, color=colours.MEASURED.light, label="in a layer that stays as it is", height=0.68)
        axis.barh(positions, removable, left=smallest, color=_REMOVABLE, label="may be left out", height=0.68)
        axis.set_yticks(positions, [name for name, _, _ in rows], fontsize=9)
        axis.invert_yaxis()
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
        axis.set_xlabel("Million multiply-accumulates for one example", color=SOFT)
        axis.spines["left"].set_visible(False)
        add_heading(figure, title, line)
        handles, labels = axis.get_legend_handles_labels()
        shown = [
            (h, n) for h, n in zip(handles, labels, strict=True) if n != "in a layer that stays as it is" or any(fixed)
        ]
        figure.legend([h for h, _ in shown], [n for _, n in shown], loc="outside lower left", ncols=3)
    return figure
