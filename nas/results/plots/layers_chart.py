"""The chart of `nas inspect --plot`: multiply-accumulates by layer, of the smallest and the largest network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.results.plots import colours
from nas.results.plots.charts import Axis, Bars, Chart, Panel

Row = tuple[str, int, int]
"""A layer's name, and its multiply-accumulates in the smallest and in the largest network."""
_INCHES_A_ROW, _INCHES_AROUND = 0.24, 1.9


def layers_chart(rows: Sequence[Row], *, title: str, line: str) -> Chart:
    """The chart: a bar for each layer, from the first at the top to the last."""
    smallest, largest = (np.array([row[i] for row in rows]) / 1e6 for i in (1, 2))
    is_fixed = smallest == largest
    bars = [Bars("in every network", np.where(is_fixed, 0, smallest), 0.0, colours.FRONT)]
    if is_fixed.any():
        bars.append(Bars("in a layer that stays as it is", np.where(is_fixed, smallest, 0), 0.0, colours.MEASURED))
    bars.append(Bars("may be left out", largest - smallest, smallest, colours.REMOVABLE))
    x = Axis("Million multiply-accumulates for one example")
    size = (8.0, _INCHES_AROUND + _INCHES_A_ROW * len(rows))
    return Chart(title, line, [Panel(x, Axis.of_rows([row[0] for row in rows]), bars)], size)
