"""The picture of a network's experts: its quality over the number of active ones, and the share of tokens routed to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas.engine.formatting import shown_scale, title_of
from nas.engine.store.folder import write_all
from nas.results.plots import colours
from nas.results.plots.insight_plots import grid
from nas.results.plots.style import STYLE, add_heading, files_of

if TYPE_CHECKING:  # it is beside this package
    from nas.results.export.expert_usage import ExpertQuality


def plot_experts(quality: ExpertQuality, folder: Path) -> list[Path]:
    """The paths of ``experts.png`` and ``experts.svg``, written into the folder, which is made where it is missing."""
    return write_all(folder, files_of("experts", expert_figure(quality)))


def expert_figure(quality: ExpertQuality) -> Figure:
    """The figure, with a panel for the quality and one for the usage."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.0, max(4.0, 0.28 * len(quality.layers) + 2.0)))
        left, right = figure.subplots(1, 2)
        where = f"network {quality.network}, {quality.examples:,} examples of the validation part, single precision"
        add_heading(figure, f"{quality.run}: experts", where)  # first: its layout decides where a colour bar goes
        _draw_quality(left, quality)
        _draw_usage(right, quality.layers)
    return figure


def _draw_quality(axis: Axes, quality: ExpertQuality) -> None:
    scale, colour = shown_scale(quality.metric), colours.FRONT.light
    x, y = np.array(quality.active), scale * np.array(quality.values)
    axis.errorbar(x, y, yerr=scale * np.array(quality.errors), marker="", capsize=2, color=colour, linewidth=1.5)
    searched = np.array([k in quality.searched for k in quality.active])
    for some, fill, label in ((searched, colour, "in the space"), (~searched, "white", "not in the space")):
        if some.any():
            axis.plot(x[some], y[some], "o", color=colour, markerfacecolor=fill, markersize=6, label=label, zorder=3)
    chosen_counts, value, _ = quality.chosen
    look: dict[str, Any] = {"color": colours.PREDICTED.light, "label": "the network's own numbers (mean)", "zorder": 4}
    axis.plot([float(np.mean(chosen_counts))], [scale * value], "D", markersize=7, **look)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("Active experts of each layer")
    axis.set_ylabel(title_of(quality.metric))
    axis.legend()


def _draw_usage(axis: Axes, layers: Sequence[Mapping[str, Any]]) -> None:
    shares = grid([layer["usage"] for layer in layers])
    edges = [np.arange(n + 1) - 0.5 for n in shares.shape[::-1]]
    drawn = axis.pcolormesh(*edges, 100 * shares, cmap="Blues", vmin=0, edgecolors="white", linewidth=1.0)
    axis.figure.colorbar(drawn, ax=axis, label="Tokens routed to the expert (%)")
    axis.grid(visible=False)
    axis.set_yticks(range(len(layers)), [layer["name"] for layer in layers], fontsize=8)
    axis.set_ylim(len(layers) - 0.5, -0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("Expert")
