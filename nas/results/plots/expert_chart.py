"""The chart of a network's experts: its quality over the number of active ones, and the share of tokens routed to each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nas.engine.formatting import shown_scale, title_of
from nas.results.plots import colours
from nas.results.plots.charts import Axis, Cells, Chart, Look, Panel, Series
from nas.results.plots.search_charts import padded

if TYPE_CHECKING:  # it is beside this package
    from nas.results.export.expert_usage import ExpertQuality


def expert_chart(quality: ExpertQuality) -> Chart:
    """The chart, with a panel for the quality and one for the usage."""
    line = f"network {quality.network}, {quality.examples:,} examples of the validation part, single precision"
    size = (10.0, max(4.0, 0.28 * len(quality.layers) + 2.0))
    return Chart(f"{quality.run}: experts", line, [_quality(quality), _usage(quality)], size, 2)


def _quality(quality: ExpertQuality) -> Panel:
    scale, look = shown_scale(quality.metric), Look(colours.FRONT, "circle", size=11)
    x, y, errors = (
        np.array(quality.active, np.float64),
        scale * np.array(quality.values),
        scale * np.array(quality.errors),
    )
    marks = [Series("", x, y, Look(colours.FRONT, line="solid", errors=1.0), y_errors=errors)]
    searched = np.array([k in quality.searched for k in quality.active])
    for mask, is_hollow, name in ((searched, False, "in the space"), (~searched, True, "not in the space")):
        if mask.any():
            marks.append(Series(name, x[mask], y[mask], replace(look, hollow=is_hollow)))
    chosen_counts, value, _ = quality.chosen
    look = Look(colours.PREDICTED, "diamond", size=12)
    mean = np.array([np.mean(chosen_counts)])
    marks.append(Series("the network's own numbers (mean)", mean, np.array([scale * value]), look))
    return Panel(Axis("Active experts of each layer", is_integer=True), Axis(title_of(quality.metric)), marks)


def _usage(quality: ExpertQuality) -> Panel:
    cells = Cells(padded([layer["usage"] for layer in quality.layers]), scale_title="Tokens routed to the expert (%)")
    rows = Axis.of_rows([layer["name"] for layer in quality.layers])
    return Panel(Axis("Expert", is_integer=True), rows, [cells])
