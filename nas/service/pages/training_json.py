"""The training curves of several runs as figures for the page that compares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nas.results.plots.charts import Axis, Chart, Panel, Series, distinct_staircase
from nas.service.api import schemas
from nas.service.pages.chart_json import figure_json

_LOSSES = {
    "largest_loss": "Loss of the largest network, validation",
    "smallest_loss": "Loss of the smallest network, validation",
    "loss": "Loss, training",
}


def training_figures(trainings: Mapping[str, schemas.Training]) -> list[dict[str, Any]]:
    """Figures with a line for each run, by what they show: scores of the largest and the smallest network, and losses.

    Scores are drawn for each metric by itself; a figure without a recorded value is left out.

    Args:
        trainings: By run; those without an epoch are left out.
    """
    begun = {run: training for run, training in trainings.items() if training.history}
    figures = []
    for title in dict.fromkeys(training.title for training in begun.values()):
        scored = {run: training for run, training in begun.items() if training.title == title}
        figures += [
            _figure_of(scored, field, title, f"{title} of the {field} network") for field in ("largest", "smallest")
        ]
    figures += [_figure_of(begun, field, "Loss", title) for field, title in _LOSSES.items()]
    return [figure for figure in figures if figure is not None]


def _figure_of(trainings: Mapping[str, schemas.Training], field: str, axis: str, title: str) -> dict[str, Any] | None:
    series: list[Series] = []
    for number, (run, training) in enumerate(trainings.items()):
        points = [
            (epoch.epoch, getattr(epoch, field)) for epoch in training.history if getattr(epoch, field) is not None
        ]
        if points:
            x, y = np.array(points, dtype=np.float64).T
            scale = 100.0 if axis != "Loss" and training.metric.unit == "share" else 1.0
            look = replace(distinct_staircase(number), steps="", width=2)
            series.append(Series(run, x, scale * y, look, hover=f"{run}, epoch {{x}}: {{y:.4g}}"))
    if not series:
        return None
    panel = Panel(Axis("Epoch", is_integer=True), Axis(axis), series)
    return {"title": title, "figure": figure_json(Chart("", "", [panel], (0.0, 0.0)))}
