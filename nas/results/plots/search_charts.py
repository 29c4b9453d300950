"""Charts of a search beside its front: its convergence, its predictors and its genes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill

import numpy as np

from nas.engine.formatting import prediction_error_text, shown_scale, title_of
from nas.results.analysis.convergence import convergence
from nas.results.analysis.insight import Insight
from nas.results.analysis.predictor_accuracy import PredictorAccuracy
from nas.results.analysis.report import PredictorReport, RunReport
from nas.results.analysis.search_steps import SearchStep
from nas.results.plots import charts, colours
from nas.results.plots.charts import Array, Axis, Bars, Cells, Chart, Guide, Look, Panel, Series
from nas.results.plots.front_chart import heading
from nas.search.problem.objectives import Objective
from predictors.folds import evenly_spaced

PICTURES = {
    "timeline": "Convergence over time",
    "predictors": "Predictions compared with later measurements",
    "models": "Weights of the models, by step",
    "genes": "Important genes, and options on the front",
}
"""Titles of the charts of a run's insight, by file name."""
MAX_GENES = 24
"""At most this many genes are drawn: the most important ones for any objective."""
MAX_STEPS = 60
MAX_MODELS = 10
"""At most this many steps, evenly spaced, and rows of models are drawn."""
_TITLE = 46
"""Characters in a line of a title above one of two axes."""
_NARROW = 26
"""The same above a narrower one."""
_SMALL_CURVE = (8.0, 4.4)
_UNITS = ((3 * 3600.0, "hours", 3600.0), (180.0, "minutes", 60.0), (0.0, "seconds", 1.0))


def convergence_chart(report: RunReport) -> Chart | None:
    """The growth of the hypervolume with the evaluations; None while there is none above 0."""
    curve = convergence(report)
    if curve is None:
        return None
    hover = f"after {{x}} evaluations: {{y:.4g}}{' %' if len(report.objectives) > 1 else ''}"
    look = Look(colours.FRONT, line="solid", width=2.5, steps="after")
    line = Series(curve.name, curve.evaluations.astype(np.float64), curve.values, look, hover=hover)
    first = slice(len(report.anchors))
    anchors_look = Look(colours.SMALLEST, "circle", size=10)
    anchors = Series("smallest and largest network", line.x[first], line.y[first], anchors_look, hover=hover)
    guides = []
    if curve.close_at is not None:
        is_late = curve.close_at > 0.6 * line.x[-1]
        guides = [Guide("x", curve.close_at, curve.close_text, "left" if is_late else "right")]
    panel = Panel(Axis("Evaluations", is_integer=True), Axis(curve.title), [line, anchors], guides)
    return Chart(*heading(report), [panel], _SMALL_CURVE)


def insight_charts(report: RunReport, insight: Insight) -> dict[str, Chart | None]:
    """The charts of `PICTURES`, by their names; None where there is nothing to show."""
    return {
        "timeline": _timeline_chart(report, insight),
        "predictors": _predictors_chart(report, insight),
        "models": models_chart(report),
        "genes": _genes_chart(report, insight),
    }


def _chart(report: RunReport, name: str, panels: Sequence[Panel], size: tuple[float, float], n_columns: int) -> Chart:
    title, line = heading(report)
    title = f"{title}: {PICTURES[name].lower()}" if len(title) < 30 else PICTURES[name]
    return Chart(title, line, panels, size, n_columns)


def _timeline_chart(report: RunReport, insight: Insight) -> Chart | None:
    curve, timeline = convergence(report), insight.timeline
    if curve is None:
        return None
    places = {int(n): i for i, n in enumerate(timeline.evaluations)}
    seconds = timeline.seconds[[places[int(n)] for n in curve.evaluations]]
    unit, factor = next((unit, factor) for min_seconds, unit, factor in _UNITS if seconds[-1] >= min_seconds)
    times = seconds / factor
    marks = [Series(curve.name, times, curve.values, Look(colours.FRONT, line="solid", width=2.5, steps="after"))]
    positions = sorted(i for i in timeline.front_positions.values() if i < len(curve.values))
    if positions:
        look = Look(colours.PREDICTED, "circle", size=9 if len(positions) < 40 else 5)
        name = "first measurement of a member of the front"
        marks.append(Series(name, times[positions], curve.values[positions], look))
    panel = Panel(Axis(f"Search time, {unit} (without pauses between drivers)"), Axis(curve.title), marks)
    return _chart(report, "timeline", [panel], _SMALL_CURVE, 1)


def _predictors_chart(report: RunReport, insight: Insight) -> Chart | None:
    objectives = [o for o in report.objectives if o.name in insight.predictor_accuracy or o.name in report.predictors]
    if not objectives:
        return None
    panels = []
    for objective in objectives:
        panels.append(_scatter(objective, insight.predictor_accuracy.get(objective.name)))
        panels.append(_quality(objective, report.predictors.get(objective.name)))
    return _chart(report, "predictors", panels, (9.5, 3.6 * len(objectives) + 1.0), 2)


def _scatter(objective: Objective, accuracy: PredictorAccuracy | None) -> Panel:
    x, y = Axis(f"Predicted: {title_of(objective)}"), Axis("Measured (darker: later steps)")
    if accuracy is None:
        return Panel(x, y, note="no predicted network was measured")
    predicted, measured = accuracy.predicted * shown_scale(objective), accuracy.measured * shown_scale(objective)
    ends = np.array([min(predicted.min(), measured.min()), max(predicted.max(), measured.max())])
    marks = [Series("", ends, ends, Look(colours.SOFT, line="dash", width=1.2))]
    # One series per shade: thousands of points with colours of their own would take seconds to draw.
    is_many = len(predicted) > charts.MANY_POINTS
    parts = np.array_split(np.argsort(accuracy.step, kind="stable"), len(colours.OLD_TO_NEW))
    for shade, rows in zip(colours.OLD_TO_NEW, parts, strict=True):
        look = Look(shade, "circle", size=6, opacity=0.8)
        marks.append(Series("", predicted[rows], measured[rows], look, is_part_of_cloud=is_many))
    tau = accuracy.kendall_tau
    agreement = "" if math.isnan(tau) else f"τ {tau:.2f}"
    coverage = f"{100 * accuracy.coverage:.0f} % within the 90 % interval"
    texts = filter(None, [agreement, prediction_error_text(objective, accuracy.errors), coverage])
    return Panel(x, y, marks, title=fill(f"{len(predicted)} networks: {', '.join(texts)}", _TITLE))


def _quality(objective: Objective, predictor: PredictorReport | None) -> Panel:
    x, y = Axis("Step", is_integer=True), Axis("Cross-validated", range=(-0.05, 1.05))
    if predictor is None:
        return Panel(x, y, note="no model was fitted")
    marks = _curves(predictor)
    bottom = min([0.0, *(float(np.nanmin(mark.y)) for mark in marks)]) - 0.05  # a negative τ
    y = Axis(y.title, range=(bottom, 1.05))
    return Panel(x, y, marks, title=fill(_errors(predictor, objective), _TITLE))


def _curves(predictor: PredictorReport) -> list[Series]:
    """Rank agreement and coverage after each fit, as far as they are defined."""
    symbol = "circle" if len(predictor.history) == 1 else ""
    series = [
        Series("Kendall's τ", *scores(predictor, "kendall_tau"), Look(colours.FRONT, symbol, line="solid")),
        Series("τ of ridge", *scores(predictor, "kendall_tau", "ridge"), Look(colours.MEASURED, symbol, line="solid")),
        Series("90 % coverage", *scores(predictor, "coverage"), Look(colours.PREDICTED, symbol, line="dash")),
    ]
    return [curve for curve in series if not np.isnan(curve.y).all()]


def scores(predictor: PredictorReport, score: str, baseline: str = "") -> tuple[Array, Array]:
    """The steps of the fits of a predictor, and a score of it or of a baseline after each, (n,) both; NaN where undefined."""
    qualities = [quality for _, quality in predictor.history]
    if baseline:
        qualities = [(quality.get("baselines") or {}).get(baseline) or {} for quality in qualities]
    steps = np.array([step for step, _ in predictor.history], dtype=np.float64)
    return steps, np.array([quality.get(score) for quality in qualities], dtype=np.float64)


def _errors(predictor: PredictorReport, objective: Objective) -> str:
    """The error of the latest model and of the baselines."""
    baselines = predictor.latest.get("baselines", {})
    errors = {name: prediction_error_text(objective, baselines.get(name, {})) for name in ("ridge", "mean")}
    texts = [prediction_error_text(objective, predictor.latest)]
    texts += [f"{name}: {text.partition(' ')[2]}" for name, text in errors.items() if text]
    return ", ".join(filter(None, texts))


def models_chart(report: RunReport) -> Chart | None:
    """A panel for each metric, with a row for each model; None where every step has a single model, always the same."""
    steps = [step for step in report.steps if step.models]
    metrics = list(dict.fromkeys(name for step in steps for name in step.models))
    if all(len({name for step in steps for name in step.models[metric].weights}) == 1 for metric in metrics):
        return None
    drawn = [steps[i] for i in evenly_spaced(len(steps), MAX_STEPS)]
    panels = [_weights(metric, drawn) for metric in metrics]
    n_rows = max(len(panel.y.labels) for panel in panels)
    return _chart(report, "models", panels, (9.5, len(panels) * (0.24 * n_rows + 1.1) + 0.8), 1)


def _weights(metric: str, steps: Sequence[SearchStep]) -> Panel:
    """The weights of the models of one metric, the heaviest on average first; the lightest of many are one row."""
    weights = [step.models[metric].weights if metric in step.models else {} for step in steps]
    names = list(dict.fromkeys(name for each in weights for name in each))
    names.sort(key=lambda name: -sum(each.get(name, 0.0) for each in weights))
    shown, light_models = (
        (names, []) if len(names) <= MAX_MODELS else (names[: MAX_MODELS - 1], names[MAX_MODELS - 1 :])
    )
    rows = [[each.get(name, 0.0) for each in weights] for name in shown]
    if light_models:
        rows.append([sum(each.get(name, 0.0) for name in light_models) for each in weights])
    labels = [*shown, *([f"{len(light_models)} others"] if light_models else [])]
    ticks = evenly_spaced(len(steps), 10).tolist()
    columns = Axis("Step", ticks, [str(steps[i].step) for i in ticks], (-0.5, len(steps) - 0.5))
    return Panel(columns, Axis.of_rows(labels), [Cells(np.array(rows), scale_title="Weight (%)")], title=metric)


def _genes_chart(report: RunReport, insight: Insight) -> Chart | None:
    if all(i.refused for i in insight.importance.values()) and insight.diversity is None:
        return None
    genes = _important_genes(report, insight)
    panels = [_importance(objective, insight, genes) for objective in report.objectives]
    panels.append(_options(insight, genes))
    size = (2.2 + 2.5 * len(panels), 0.21 * len(genes) + 2.0)
    return _chart(report, "genes", panels, size, len(panels))


def _important_genes(report: RunReport, insight: Insight) -> list[str]:
    """The most important genes in the space's order, at most `MAX_GENES`."""
    names = [choice.name for choice in report.space.choices]
    max_share = {name: max(i.by_gene.get(name, 0.0) for i in insight.importance.values()) for name in names}
    important = set(sorted(names, key=lambda name: -max_share[name])[:MAX_GENES])
    return [name for name in names if name in important]


def _importance(objective: Objective, insight: Insight, genes: Sequence[str]) -> Panel:
    importance, title = insight.importance[objective.name], fill(title_of(objective), _NARROW)
    titles = insight.report.space.titles
    rows = Axis.of_rows([titles[gene] for gene in genes], is_hidden=next(iter(insight.importance)) != objective.name)
    if importance.refused:
        return Panel(Axis("not available", is_empty=True), rows, title=title, note=fill(importance.refused, _NARROW))
    bars = Bars("", 100 * np.array([importance.by_gene[gene] for gene in genes]), 0.0, colours.FRONT)
    line = f"Share of variance (%)\nadditive model, held-out\nR² {importance.r2:.2f}, n = {importance.n}"
    return Panel(Axis(line), rows, [bars], title=title)


def _options(insight: Insight, genes: Sequence[str]) -> Panel:
    """One cell per option, darker the more members have it."""
    title, rows, diversity = "Options of the front's members", Axis.of_rows(genes, is_hidden=True), insight.diversity
    if diversity is None:
        note = fill("the front has fewer than two members", _NARROW)
        return Panel(Axis(is_empty=True), rows, title=title, note=note)
    options = [diversity.options[gene] for gene in genes]
    shares = padded([list(share_by_option.values()) for share_by_option in options])
    texts = [list(map(str, share_by_option)) for share_by_option in options]
    active = [diversity.active[gene] for gene in genes]
    remarks = [f"in {100 * share:.0f} %" if share < 1 else "" for share in active]
    line = (
        f"Shade: share of members\nmean distance {diversity.mean:.1f} of {diversity.n_genes} genes\n"
        f"({diversity.min_distance} to {diversity.max_distance}; all evaluated: {diversity.evaluated:.1f})"
    )
    columns = Axis(line, range=(-0.5, shares.shape[1] + 0.4), is_empty=True)
    return Panel(columns, rows, [Cells(shares, texts, remarks)], title=title)


def padded(rows: Sequence[Sequence[float]]) -> Array:
    """Rows of different lengths as one array, padded with NaN."""
    out = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out
