"""Pictures of a run's insight: its convergence over time, its predictions and its genes (matplotlib)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nas.engine.formatting import prediction_error_text, shown_scale, title_of
from nas.results.analysis.importance import Importance
from nas.results.analysis.insight import Insight
from nas.results.analysis.predictor_accuracy import PredictorAccuracy
from nas.results.analysis.report import PredictorReport, RunReport
from nas.results.plots import colours
from nas.results.plots.chart_data import MANY_POINTS, PICTURES, convergence, heading
from nas.results.plots.style import INK, SOFT, add_heading, thin_ticks
from nas.search.problem.objectives import Objective

MAX_GENES = 24
"""At most this many genes are drawn: the most important ones for any objective."""
_SHADES = ("#FDE725", "#5EC962", "#21918C", "#3B528B", "#440154")
"""Of the predictions in five equal parts, the oldest first: from viridis (Smith and van der Walt 2015)."""
_TITLE = 46
"""Characters in a line of a title above one of two axes."""
_UNITS = ((3 * 3600.0, "hours", 3600.0), (180.0, "minutes", 60.0), (0.0, "seconds", 1.0))


def insight_figures(report: RunReport, insight: Insight) -> dict[str, Callable[[], Figure | None]]:
    """Functions that draw the pictures of `PICTURES`, by their names; each returns None where there is nothing to show."""
    return {
        "course": partial(_timeline_figure, report, insight),
        "predictors": partial(_predictors_figure, report, insight),
        "genes": partial(_genes_figure, report, insight),
    }


def _timeline_figure(report: RunReport, insight: Insight) -> Figure | None:
    curve, timeline = convergence(report), insight.timeline
    if curve is None:
        return None
    places = {int(n): i for i, n in enumerate(timeline.evaluations)}
    seconds = timeline.seconds[[places[int(n)] for n in curve.evaluations]]
    unit, factor = next((unit, factor) for min_seconds, unit, factor in _UNITS if seconds[-1] >= min_seconds)
    figure = Figure(figsize=(8.0, 4.4))
    axis = figure.subplots()
    look: dict[str, Any] = {"drawstyle": "steps-post", "color": colours.FRONT.light, "linewidth": 2}
    axis.plot(seconds / factor, curve.values, **look, label=curve.name)
    positions = sorted(i for i in timeline.front_positions.values() if i < len(curve.values))
    if positions:
        look = {"color": colours.PREDICTED.light, "markeredgecolor": "white", "markeredgewidth": 0.6}
        look |= {"markersize": 6 if len(positions) < 40 else 3.5, "label": "first measurement of a member of the front"}
        axis.plot(seconds[positions] / factor, curve.values[positions], "o", **look)
    axis.set_xlabel(f"Search time, {unit} (without pauses between drivers)")
    axis.set_ylabel(curve.title)
    _finish(figure, report, "course")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _predictors_figure(report: RunReport, insight: Insight) -> Figure | None:
    objectives = [o for o in report.objectives if o.name in insight.predictor_accuracy or o.name in report.predictors]
    if not objectives:
        return None
    figure = Figure(figsize=(9.5, 3.6 * len(objectives) + 1.0))
    axes = figure.subplots(len(objectives), 2, squeeze=False)
    for objective, (left, right) in zip(objectives, axes, strict=True):
        thin_ticks(left)
        thin_ticks(right)
        _draw_scatter(left, objective, insight.predictor_accuracy.get(objective.name))
        _draw_quality(right, objective, report.predictors.get(objective.name))
    _finish(figure, report, "predictors")
    return figure


def _draw_scatter(axis: Axes, objective: Objective, accuracy: PredictorAccuracy | None) -> None:
    title = title_of(objective)
    axis.set_xlabel(f"Predicted: {title}")
    axis.set_ylabel("Measured (darker: later steps)")
    if accuracy is None:
        return _write(axis, "no predicted network was measured")
    scale = shown_scale(objective)
    x, y = accuracy.predicted * scale, accuracy.measured * scale
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    axis.plot(ends, ends, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    # One line per shade: thousands of points with colours of their own would take seconds to draw.
    for shade, rows in zip(
        _SHADES, np.array_split(np.argsort(accuracy.step, kind="stable"), len(_SHADES)), strict=True
    ):
        axis.plot(
            x[rows],
            y[rows],
            "o",
            color=shade,
            markersize=4,
            markeredgewidth=0,
            alpha=0.8,
            rasterized=len(x) > MANY_POINTS,
            zorder=2,
        )
    tau = accuracy.kendall_tau
    agreement = "" if math.isnan(tau) else f"τ {tau:.2f}"
    coverage = f"{100 * accuracy.coverage:.0f} % within the 90 % interval"
    error = prediction_error_text(objective, accuracy.errors)
    texts = filter(None, [agreement, error, coverage])
    axis.set_title(fill(f"{len(x)} networks: {', '.join(texts)}", _TITLE), loc="left", color=SOFT)
    return None


def _draw_quality(axis: Axes, objective: Objective, predictor: PredictorReport | None) -> None:
    axis.set_xlabel("Step")
    axis.set_ylabel("Cross-validated")
    axis.set_ylim(-0.05, 1.05)  # extended below for a negative τ
    if predictor is None:
        return _write(axis, "no model was fitted")
    steps, history = [step for step, _ in predictor.history], [quality for _, quality in predictor.history]
    lines = (
        ("Kendall's τ", colours.FRONT.light, "-", [q.get("kendall_tau") for q in history]),
        ("τ of ridge", colours.MEASURED.light, "-", _baseline(history, "ridge", "kendall_tau")),
        ("90 % coverage", colours.PREDICTED.light, (0, (4, 2.5)), [q.get("coverage") for q in history]),
    )
    for name, colour, style, values in lines:
        curve = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
        if not np.isnan(curve).all():
            marker = "o" if len(steps) == 1 else ""
            axis.plot(steps, curve, color=colour, linestyle=style, marker=marker, linewidth=1.6, label=name)
            axis.set_ylim(bottom=min(axis.get_ylim()[0], float(np.nanmin(curve)) - 0.05))
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.legend(loc="lower right", fontsize=9)
    axis.set_title(fill(_errors(predictor, objective), _TITLE), loc="left", color=SOFT)
    return None


def _baseline(history: Sequence[Any], name: str, score: str) -> list[float | None]:
    return [q.get("baselines", {}).get(name, {}).get(score) for q in history]


def _errors(predictor: PredictorReport, objective: Objective) -> str:
    """The error of the latest model and of the baselines."""
    baselines = predictor.latest.get("baselines", {})
    errors = {name: prediction_error_text(objective, baselines.get(name, {})) for name in ("ridge", "mean")}
    texts = [prediction_error_text(objective, predictor.latest)]
    texts += [f"{name}: {text.partition(' ')[2]}" for name, text in errors.items() if text]
    return ", ".join(filter(None, texts))


def _genes_figure(report: RunReport, insight: Insight) -> Figure | None:
    if all(i.refused for i in insight.importance.values()) and insight.diversity is None:
        return None
    genes = _genes(report, insight)
    names = [o.name for o in report.objectives]
    n_panels = len(names) + 1
    figure = Figure(figsize=(2.2 + 2.5 * n_panels, 0.21 * len(genes) + 2.0))
    axes = figure.subplots(1, n_panels, squeeze=False, sharey=True)[0]
    for axis, objective in zip(axes, report.objectives, strict=False):
        _draw_importance(axis, objective, insight.importance[objective.name], genes)
    _draw_options(axes[-1], insight, genes)
    axes[0].set_yticks(range(len(genes)), genes, fontsize=8)
    axes[0].set_ylim(len(genes) - 0.5, -0.5)
    axes[0].tick_params(axis="y", length=0)
    for axis in axes[1:]:
        axis.yaxis.set_visible(False)  # not seen, but its ticks would be laid out and drawn
    _finish(figure, report, "genes")
    return figure


def _genes(report: RunReport, insight: Insight) -> list[str]:
    """The most important genes in the space's order, at most `MAX_GENES`."""
    names = [choice.name for choice in report.space.choices]
    max_share = {name: max(i.by_gene.get(name, 0.0) for i in insight.importance.values()) for name in names}
    important = set(sorted(names, key=lambda name: -max_share[name])[:MAX_GENES])
    return [name for name in names if name in important]


def _draw_importance(axis: Axes, objective: Objective, importance: Importance, genes: Sequence[str]) -> None:
    axis.set_title(fill(title_of(objective), 26), loc="left")
    axis.grid(visible=False, axis="y")
    if importance.refused:
        axis.set_xlabel("not available")
        axis.set_xticks([])
        return _write(axis, fill(importance.refused, 26))
    axis.barh(
        range(len(genes)), [100 * importance.by_gene[gene] for gene in genes], color=colours.FRONT.light, height=0.7
    )
    axis.set_xlabel(f"Share of variance (%)\nadditive model, held-out\nR² {importance.r2:.2f}, n = {importance.n}")
    return None


def _draw_options(axis: Axes, insight: Insight, genes: Sequence[str]) -> None:
    """One cell per option, darker the more members have it."""
    axis.grid(visible=False)
    axis.set_xticks([])
    axis.set_title("Options of the front's members", loc="left")
    if insight.diversity is None:
        return _write(axis, fill("the front has fewer than two members", 26))
    options = insight.diversity.options
    shares = grid([list(options[gene].values()) for gene in genes])
    axis.pcolormesh(
        np.arange(shares.shape[1] + 1) - 0.5,
        np.arange(len(genes) + 1) - 0.5,
        shares,
        cmap="Blues",
        vmin=0,
        vmax=1.15,
        edgecolors="white",
        linewidth=1.2,
    )
    for row, gene in enumerate(genes):
        active = insight.diversity.active[gene]
        for column, (option, share) in enumerate(options[gene].items()):
            colour = "white" if share > 0.6 else INK if share > 0 else "#A9B0B8"
            # A text within its cell needs no place in the layout, which would take long to measure for each of them.
            axis.text(column, row, str(option), ha="center", va="center", fontsize=7, color=colour, in_layout=False)
        if active < 1:
            at = shares.shape[1] - 0.4
            axis.text(at, row, f"in {100 * active:.0f} %", va="center", fontsize=7, color=SOFT, clip_on=False)
    axis.set_xlim(-0.5, shares.shape[1] + 0.4)
    min_distance, max_distance = insight.diversity.min_distance, insight.diversity.max_distance
    axis.set_xlabel(
        f"Shade: share of members\nmean distance {insight.diversity.mean:.1f} of {insight.diversity.n_genes} genes\n"
        f"({min_distance} to {max_distance}; all evaluated: {insight.diversity.evaluated:.1f})"
    )
    return None


def grid(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Rows of different lengths as one array, padded with NaN."""
    out = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out


def _write(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=SOFT, fontsize=9)


def _finish(figure: Figure, report: RunReport, name: str) -> None:
    title, line = heading(report)
    add_heading(figure, f"{title}: {PICTURES[name].lower()}" if len(title) < 30 else PICTURES[name], line)
