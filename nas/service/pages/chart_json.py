"""The data of charts of runs as JSON for the pages' scripts: by columns, so that 10,000 networks travel quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import cycle
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.engine.formatting import format_value, shown_scale, shown_unit, title_of, title_on_test
from nas.engine.predictions import Predictions
from nas.results.analysis.network_values import Point, errors_of, keys_of, values_of
from nas.results.analysis.report import RunReport
from nas.results.plots import colours
from nas.results.plots.charts import Axis, Chart, Look, Panel, Series, distinct_staircase
from nas.results.plots.front_chart import MEASURED_NAME, PREDICTED_NAME, Networks
from nas.results.plots.plotly_charts import axis_layout, figure_of, trace
from nas.results.plots.prediction_charts import chart_words, prediction_charts
from nas.results.plots.prediction_pictures import pictures_html
from nas.results.plots.prediction_section import network_names
from nas.results.plots.search_charts import convergence_chart, scores
from nas.search.problem.objectives import Objective
from nas.service.api import schemas
from supernets.space import title_of_place

_SYMBOLS = ("circle", "square", "triangle-up", "cross", "star", "hexagon", "x")
"""Of several series side by side."""
_MARGIN = 0.05
"""Between the outermost points and the ends of an axis, as a share of it."""
_LOSSES = {
    "largest_loss": "Loss of the largest network, validation",
    "smallest_loss": "Loss of the smallest network, validation",
    "loss": "Loss, training",
}


def metric_info(metric: Objective) -> dict[str, Any]:
    """How a metric is shown: ``scale`` turns a stored value into one of ``unit``."""
    return {
        "name": metric.name,
        "profile": metric.profile,
        "goal": str(metric.goal),
        "title": title_of(metric),
        "unit": shown_unit(metric),
        "scale": shown_scale(metric),
        "of_task": metric.of_task,
    }


def chart_data(report: RunReport) -> dict[str, Any]:
    """A search's networks and curves as JSON.

    ``measured`` are all networks that a selection chooses from, in the order evaluated, with their final values where they
    were measured again (``final`` has their positions, and ``searched`` their search values); the front and the places of
    series are positions among them. A gene in a key is the position of its option in ``choices``. ``blocks`` has the costs by
    block of the networks that were chosen to be measured again; see `nas.engine.store.block_costs`.
    """
    candidates = report.candidates
    final = np.flatnonzero(candidates.final).tolist()
    searched = report.evaluated.take([report.evaluated.places[candidates.keys[i]] for i in final])
    return {
        "metrics": [metric_info(metric) for metric in report.columns],
        "objectives": [objective.name for objective in report.objectives],
        "primary": report.primary.name,
        "cost": report.cost.name,
        "constraints": [{"metric": c.metric.name, "min": c.minimum, "max": c.maximum} for c in report.constraints],
        "choices": [
            {
                "name": c.name,
                "title": report.space.titles[c.name],
                "members": list(c.members),
                "options": list(c.options),
            }
            for c in report.space.choices
        ],
        "measured": {
            **_columns(candidates, report.columns),
            "numbers": [report.numbers[key] for key in keys_of(candidates)],
            "final": final,
            "searched": {o.name: values_of(searched, o.name).tolist() for o in report.objectives},
            "test": {
                "places": list(candidates.tests),
                "metric": metric_info(report.scored) | {"title": title_on_test(report.scored)},
                "values": [test[report.scored.name] for test in candidates.tests.values()],
                "errors": [test["error"] for test in candidates.tests.values()],
            },
        },
        "predicted": _columns(report.predicted, report.columns),
        "front": [candidates.places[point.key] for point in report.front],
        "views": _views(report),
        "largest_key": report.space.largest.key,
        "blocks": {
            **report.block_costs.to_json(),
            "titles": {place: title_of_place(place) for place in report.block_costs.places},
        },
        "convergence": figure_json(convergence_chart(report)),
        "predictors": figure_json(_predictors_chart(report)),
    }


def _columns(points: Sequence[Point], metrics: Sequence[Objective]) -> dict[str, Any]:
    """Keys, and values and errors by metric; None for what a predicted network lacks."""
    return {
        "keys": list(keys_of(points)),
        "metrics": {
            metric.name: {
                "values": _without_nan(values_of(points, metric.name)),
                "errors": _without_nan(errors_of(points, metric.name)),
            }
            for metric in metrics
        },
    }


def _without_nan(values: NDArray[np.float64]) -> list[float | None]:
    """Values with None in place of NaN, which JSON does not have."""
    return [None if value != value else value for value in values.tolist()]


def _views(report: RunReport) -> list[dict[str, Any]]:
    """The views of the chart against the primary objective: each other metric, and one metric on all profiles at once.

    The views of several profiles come first, then the cost. Each has ``metrics``, of which the first stands for their unit
    and goal, the ``layout`` of its axes, and the ``series`` of its panel in drawing order.
    """
    networks = Networks.from_report(report, report.candidates)
    costs = sorted((m for m in report.columns if m != report.primary), key=lambda m: m != report.cost)
    series_by_cost = {cost: networks.series((cost, report.primary)) for cost in costs}
    views = [_view(report, title_of(cost), [(cost, series) for series in series_by_cost[cost]]) for cost in costs]
    for metric in dict.fromkeys(cost.metric for cost in costs if cost.profile is not None):
        several = [cost for cost in costs if cost.metric == metric]
        if len(several) > 1:
            joint = [
                (cost, replace(series, name=f"{series.name}, {cost.profile}", look=replace(series.look, colour=colour)))
                for colour, cost in zip(cycle(colours.PALETTE), several, strict=False)
                for series in series_by_cost[cost]
                if series.name.startswith(("front", MEASURED_NAME, PREDICTED_NAME))
            ]
            views.insert(0, _view(report, f"{title_of(several[0]).partition(',')[0]}, every profile", joint))
    return views


def _view(report: RunReport, title: str, marks: Sequence[tuple[Objective, Series]]) -> dict[str, Any]:
    """One view; the traces of its series lack their values, which are columns of the networks at ``places`` in ``part``."""
    costs = list(dict.fromkeys(cost for cost, _ in marks))
    x, y = _axis_of(report, title, costs), _axis_of(report, title_of(report.primary), [report.primary])
    panel = Panel(x, y, [series for _, series in marks])
    chart = Chart(title, "", [panel], (0.0, 0.0))
    positions = {
        "measured": report.candidates.places,
        "predicted": {point.key: place for place, point in enumerate(report.predicted)},
    }
    series_data = []
    for cost, series in marks:
        part = series.points[0].source
        places = [positions[part][key] for key in keys_of(series.points) if key in positions[part]]
        data = trace(chart, panel, series, has_values=False)
        series_data.append({"metric": cost.name, "part": part, "places": places, "trace": data})
    layout = {"xaxis": axis_layout(x), "yaxis": axis_layout(y)}
    return {"title": title, "metrics": list(map(metric_info, costs)), "layout": layout, "series": series_data}


def _axis_of(report: RunReport, title: str, metrics: Sequence[Objective]) -> Axis:
    """The axis of some metrics of one unit, with all networks and bounds of the job within its range."""
    names = [metric.name for metric in metrics]
    limits = [(c.minimum, c.maximum) for c in report.constraints if c.metric.name in names]
    columns = [values_of(points, name) for points in (report.candidates, report.predicted) for name in names]
    values = np.concatenate([*columns, np.array(limits, dtype=np.float64).ravel()])
    return _spanning(title, values[np.isfinite(values)] * shown_scale(metrics[0]), is_linear=metrics[0].of_task)


def _spanning(title: str, values: NDArray[np.float64], *, is_linear: bool) -> Axis:
    """An axis with a range around some values."""
    axis = Axis(title) if is_linear else Axis.of_values(title, values)
    low, high = float(values.min()), float(values.max())
    if axis.is_log:
        factor = (high / low) ** _MARGIN
        return replace(axis, range=(low / factor, high * factor))
    margin = _MARGIN * (high - low or abs(high) or 1.0)
    return replace(axis, range=(low - margin, high + margin))


def _predictors_chart(report: RunReport) -> Chart | None:
    """Rank agreement after each fit, by objective; the dotted lines are the ridge baseline. None while there is none."""
    titles = {metric.name: title_of(metric) for metric in report.columns}
    marks = []
    for (name, predictor), colour, symbol in zip(
        report.predictors.items(), cycle(colours.PALETTE), cycle(_SYMBOLS), strict=False
    ):
        title = titles.get(name, name)
        steps, tau = scores(predictor, "kendall_tau")
        _, ridge = scores(predictor, "kendall_tau", "ridge")
        if not np.isnan(ridge).all():
            look = Look(colour, line="dot", width=1.4)
            marks.append(Series(f"{title}, ridge", steps, ridge, look, hover=f"ridge, {title}: {{y:.3f}}"))
        look = Look(colour, symbol, line="solid")
        marks.append(Series(title, steps, tau, look, hover=f"{title}: {{y:.3f}}"))
    values = np.concatenate([np.empty(0), *(series.y for series in marks)])
    if np.isnan(values).all():
        return None
    lowest = float(np.nanmin(values, initial=0.0))
    x, y = Axis("Step of the search", is_integer=True), Axis("Kendall's τ, held out", range=(lowest, 1.03))
    return Chart("", "", [Panel(x, y, marks)], (0.0, 0.0))


def prediction_data(predictions: Predictions, report: RunReport, key: str) -> dict[str, Any]:
    """The predictions of a network beside the largest one's: ``pictures`` as a part of the page, and ``charts``.

    Without predictions of the network, there are none of both, and a ``note``.
    """
    place = predictions.place(key)
    if place is None or key not in report.numbers:
        n = len(predictions.networks) - 1
        note = f"No predictions are kept of this network, only of {n} of the front and of the largest network."
        return {"note": note, "pictures": "", "charts": []}
    name = network_names(predictions, report)[key]
    charts = prediction_charts(predictions, place, name)
    return {
        "note": "",
        "pictures": pictures_html(predictions, place, name),
        "charts": [
            {
                "name": chart_name,
                "title": chart.title,
                "words": chart_words(chart),
                "height": figure_of(chart).height,
                "figure": figure_json(chart),
            }
            for chart_name, chart in charts.items()
        ],
    }


def comparison_data(comparison: schemas.Comparison, metrics: Sequence[Objective]) -> dict[str, Any]:
    """Figures of compared searches: the ``fronts`` against each cost with its ``title``, and the ``curves`` of hypervolumes."""
    quality = next((metric for metric in metrics if metric.of_task), metrics[0])
    fronts = [
        {"title": title_of(cost), "figure": figure_json(_fronts_chart(comparison, metrics, cost, quality))}
        for cost in metrics
        if cost != quality
    ]
    curves = []
    largest_volume = max((run.curve[-1][1] for run in comparison.runs if run.curve), default=0.0)
    for number, run in enumerate(comparison.runs):
        x, y = np.array(run.curve, dtype=np.float64).reshape(-1, 2).T
        share = 100 * y / largest_volume if largest_volume else y
        curves.append(Series(run.run, x, share, distinct_staircase(number), hover=f"{run.run}: {{y:.4g}} %"))
    panel = Panel(
        Axis("Evaluations", is_integer=True), Axis("Hypervolume (% of the largest)", range=(0.0, None)), curves
    )
    return {"fronts": fronts, "curves": figure_json(Chart("", "", [panel], (0.0, 0.0)))}


def _fronts_chart(
    comparison: schemas.Comparison, metrics: Sequence[Objective], cost: Objective, quality: Objective
) -> Chart:
    """The fronts, and below them a broad line through the networks that no network of another run dominates."""
    steps: Literal["", "after"] = "after" if len(metrics) == 2 else ""
    marks = []
    for run, colour, symbol in zip(comparison.runs, cycle(colours.PALETTE), cycle(_SYMBOLS), strict=False):
        look = Look(colour, symbol, size=8, line="solid" if steps else "", width=1.6, steps=steps, errors=1.0)
        texts = [_network_text(run.run, network, metrics) for network in run.front]
        marks.append(replace(_compared(run.run, run.front, cost, quality, look), texts=texts))
    if steps and comparison.common_front:
        networks = {(run.run, network.key): network for run in comparison.runs for network in run.front}
        members = [networks[member.run, member.key] for member in comparison.common_front]
        look = Look(colours.MEASURED, line="solid", width=7, steps="after", opacity=0.45)
        marks.insert(0, _compared("common front", members, cost, quality, look))
    x = _spanning(title_of(cost), np.concatenate([mark.x for mark in marks]), is_linear=cost.of_task)
    y = _spanning(title_of(quality), np.concatenate([mark.y for mark in marks]), is_linear=quality.of_task)
    return Chart("", "", [Panel(x, y, marks)], (0.0, 0.0))


def _compared(
    name: str, networks: Sequence[schemas.Network], cost: Objective, quality: Objective, look: Look
) -> Series:
    columns = []
    for metric in (cost, quality):
        figures = [network.figures[metric.name] for network in networks]
        values, errors = np.array([(f.value, f.error) for f in figures], dtype=np.float64).reshape(-1, 2).T
        columns.append((shown_scale(metric) * values, shown_scale(metric) * errors))
    (x, x_errors), (y, y_errors) = columns
    return Series(name, x, y, look, x_errors, y_errors)


def _network_text(run: str, network: schemas.Network, metrics: Sequence[Objective]) -> str:
    """The hover text of a network, in the subset of HTML that plotly reads."""
    figures = [(metric, network.figures[metric.name]) for metric in metrics]
    values = [
        f"{escape(title_of(metric))}: <b>{escape(format_value(metric, figure.value, figure.error))}</b>"
        for metric, figure in figures
    ]
    return "<br>".join([escape(run), *values, escape(network.key)])


def figure_json(chart: Chart | None) -> dict[str, Any] | None:
    """The traces and the layout of a chart; None for none."""
    if chart is None:
        return None
    figure = figure_of(chart)
    return {"data": figure.traces, "layout": figure.layout}


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
