"""The plots of a run as files: pictures as PNG and SVG, and the HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.engine.predictions import Predictions
from nas.engine.store.folder import write_all
from nas.results.analysis.finetuned_runs import Finetuning
from nas.results.analysis.insight import Insight
from nas.results.analysis.network_selection import Limit
from nas.results.analysis.report import RunReport
from nas.results.plots.front_chart import front_chart
from nas.results.plots.html_page import page
from nas.results.plots.picture_files import files_of
from nas.results.plots.prediction_charts import prediction_charts
from nas.results.plots.prediction_pictures import pictures_chart
from nas.results.plots.prediction_section import network_names, shown_first
from nas.results.plots.search_charts import PICTURES, convergence_chart, insight_charts


def write_plots(
    report: RunReport,
    folder: Path,
    *,
    limits: Sequence[Limit] = (),
    insight: Insight | None = None,
    finetunings: Sequence[Finetuning] = (),
    predictions: Predictions | None = None,
    remarks: Sequence[str] = (),
) -> list[Path]:
    """Writes ``front`` and ``convergence`` as ``.png`` and ``.svg``, and ``front.html``; returns their paths.

    With the run's insight, also the pictures of `PICTURES`, which the page then holds; with predictions, those of the member
    of the front that is nearest to its knee, and charts of them. Each file appears whole or not at all. The convergence is left
    out while there is no hypervolume, and the front where a single objective has no limited metric beside it.

    Args:
        finetunings: runs that fine-tuned networks of this run, drawn beside the front.
        predictions: predictions that the run keeps; None for none.
        remarks: further lines of the page.

    Raises:
        NasError: nothing is measured yet.
        StoreError: the folder cannot be made, or a file not be written.
    """
    charts = {"front": front_chart(report, limits, finetunings), "convergence": convergence_chart(report)}
    if insight is not None:
        charts |= insight_charts(report, insight)
    if predictions is not None:
        shown = shown_first(predictions, report)
        network = (predictions, predictions.networks.index(shown), network_names(predictions, report)[shown])
        charts |= {"predictions": pictures_chart(*network), **prediction_charts(*network)}
    contents: dict[str, bytes] = {}
    for name, chart in charts.items():
        if chart is not None:
            contents |= files_of(name, chart)
    drawn = {title: contents.get(f"{name}.svg") for name, title in PICTURES.items()}
    pictures = {title: svg.decode() for title, svg in drawn.items() if svg is not None}
    text = page(
        report,
        charts["front"],
        charts["convergence"],
        finetunings=finetunings,
        pictures=pictures,
        predictions=predictions,
        remarks=remarks,
    )
    return write_all(folder, contents | {"front.html": text.encode()})
