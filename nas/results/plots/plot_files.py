"""The plots of a run as files: pictures as PNG and SVG, and the HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from nas.engine.store.folder import write_all
from nas.results.analysis.finetuned_runs import Finetuning
from nas.results.analysis.insight import Insight
from nas.results.analysis.network_selection import Limit
from nas.results.analysis.report import RunReport
from nas.results.plots.chart_data import PICTURES
from nas.results.plots.front_panels import front_panels
from nas.results.plots.front_plot import convergence_figure, front_figure
from nas.results.plots.html_page import page
from nas.results.plots.insight_plots import insight_figures
from nas.results.plots.style import STYLE, files_of


def write_plots(
    report: RunReport,
    folder: Path,
    *,
    limits: Sequence[Limit] = (),
    insight: Insight | None = None,
    finetunings: Sequence[Finetuning] = (),
) -> list[Path]:
    """Writes ``front`` and ``convergence`` as ``.png`` and ``.svg``, and ``front.html``; returns their paths.

    With the run's insight, also the pictures of `PICTURES`, which the page then holds. Each file appears whole or not at
    all. The convergence is left out while there is no hypervolume, and the front where a single objective has no limited
    metric beside it.

    Args:
        finetunings: runs that fine-tuned networks of this run, drawn beside the front.

    Raises:
        NasError: nothing is measured yet.
        StoreError: the folder cannot be made, or a file not be written.
    """
    panels = front_panels(report, limits, finetunings)
    figures: dict[str, Callable[[], Figure | None]] = {
        "front": partial(front_figure, report, panels),
        "convergence": partial(convergence_figure, report),
    }
    if insight is not None:
        figures |= insight_figures(report, insight)
    contents: dict[str, bytes] = {}
    for name, make in figures.items():
        with matplotlib.rc_context(STYLE):
            figure = make()
        if figure is not None:
            contents |= files_of(name, figure)
    drawn = {title: contents.get(f"{name}.svg") for name, title in PICTURES.items()}
    pictures = {title: svg.decode() for title, svg in drawn.items() if svg is not None}
    contents["front.html"] = page(report, panels, finetunings=finetunings, pictures=pictures).encode()
    return write_all(folder, contents)
