"""The front and the convergence of a run as plotly charts with hover texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from textwrap import wrap
from typing import Any

from nas.engine.formatting import format_value, score_text
from nas.results.analysis.finetuned_runs import Finetuning
from nas.results.analysis.network_values import Point, keys_of
from nas.results.analysis.report import RunReport
from nas.results.plots import colours
from nas.results.plots.chart_data import convergence
from nas.results.plots.front_panels import FINETUNED_NAME, PREDICTED_NAME, Axis, Panel, Series
from nas.results.plots.plotly_embedding import Chart, array


def front_chart(report: RunReport, panels: Sequence[Panel], finetunings: Sequence[Finetuning] = ()) -> Chart | None:
    """The front among everything measured and predicted; None without panels."""
    if not panels:
        return None
    n_columns = min(2, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    layout, traces, labels = _layout(), [], _Labels(report, finetunings)
    for number, panel in enumerate(panels):
        place = str(number + 1) if number else ""  # plotly's suffix of the panel's axes
        panel_axes = {"xaxis": f"x{place}", "yaxis": f"y{place}"}
        traces += [_trace(panel, series, labels) | panel_axes for series in panel.series]
        row, column = divmod(number, n_columns)
        across, along = _share(column, n_columns, gap=0.1), _share(n_rows - 1 - row, n_rows, gap=0.32 / n_rows)
        layout[f"xaxis{place}"] = _axis(panel.x) | {"domain": across, "anchor": f"y{place}"}
        layout[f"yaxis{place}"] = _axis(panel.y) | {"domain": along, "anchor": f"x{place}"}
        for side, axis in (("x", panel.x), ("y", panel.y)):
            for at, text in axis.limits:
                _add_line(layout, side, at, text, place, is_log=bool(axis.ticks))
    last = {trace["name"]: trace for trace in traces}  # one legend entry for all series of a name
    for trace in traces:
        trace |= {"legendgroup": trace["name"], "showlegend": last[trace["name"]] is trace}
    return Chart(traces, layout, f"{520 if n_rows == 1 else 440 * n_rows}px")


def convergence_chart(report: RunReport) -> Chart | None:
    """The growth of the hypervolume with the evaluations; None while there is none above 0."""
    curve = convergence(report)
    if curve is None:
        return None
    first = slice(len(report.anchors))
    unit = " %" if len(report.objectives) > 1 else ""
    hover = {"type": "scatter", "hovertemplate": f"after %{{x}} evaluations: %{{y:.4g}}{unit}<extra></extra>"}
    line = hover | {
        "x": array(curve.evaluations),
        "y": array(curve.values),
        "mode": "lines",
        "line": {"shape": "hv", "color": colours.FRONT.light, "width": 2.5},
        "name": curve.name,
        "meta": asdict(colours.FRONT) | {"errors": ""},
    }
    anchors = hover | {
        "x": array(curve.evaluations[first]),
        "y": array(curve.values[first]),
        "mode": "markers",
        "marker": {"color": colours.SMALLEST.light, "size": 10},
        "name": "smallest and largest network",
    }
    layout = _layout()
    if curve.close_at is not None:
        _add_line(layout, "x", curve.close_at, curve.close_text, left=curve.close_late)
    layout |= {"xaxis": _axis(Axis("Evaluations", (), ())), "yaxis": _axis(Axis(curve.title, (), ()))}
    return Chart([line, anchors], layout, "360px")


def _trace(panel: Panel, series: Series, labels: _Labels) -> dict[str, Any]:
    """The plotly trace of a series; of many points drawn by the graphics processor, with short hover texts."""
    look, colour = series.look, series.look.colour.light
    open_, thin = look.hollow or look.symbol == "x-thin", look.symbol == "x-thin"
    trace: dict[str, Any] = {
        "name": series.name,
        "mode": "+".join([*(["lines"] if look.line else []), *(["markers"] if look.symbol else [])]),
        "line": {
            "color": colour,
            "width": 2 if look.line == "solid" else 1.5,
            "dash": look.line or "solid",
            "shape": "hv" if look.steps else "linear",
        },
        "marker": {
            "color": colour,
            "size": look.size,
            "opacity": look.opacity,
            "symbol": f"{look.symbol}{'-open' if open_ else ''}",
            "line": {"width": 1 if thin else 0.17 * look.size if look.hollow else 0},
        },
        # By which the page's script recolours it when the theme changes.
        "meta": asdict(look.colour) | {"errors": f"{round(255 * look.errors):02x}"},
    }
    if not look.symbol:
        del trace["marker"]
    if look.errors:
        bars = {"color": f"{colour}{trace['meta']['errors']}", "thickness": 1.2, "width": 0, "type": "data"}
        trace["error_x"] = {**bars, "array": series.x_errors.tolist()}
        trace["error_y"] = {**bars, "array": series.y_errors.tolist()}
    if series.is_cloud:
        x, y = escape(panel.x.title), escape(panel.y.title)
        return trace | {
            "type": "scattergl",
            "x": array(series.x),
            "y": array(series.y),
            "customdata": list(keys_of(series.points)),
            "hovertemplate": f"{x} <b>%{{x:.5g}}</b><br>{y} <b>%{{y:.5g}}</b><br>%{{customdata}}<extra></extra>",
        }
    trace |= {"type": "scatter", "x": series.x.tolist(), "y": series.y.tolist()}
    if not look.symbol:
        return trace | {"hoverinfo": "skip"}
    trace |= {
        "customdata": list(map(labels.hover_text, series.points)),
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    trace["ids"] = list(keys_of(series.points))  # what a click selects
    return trace | ({"legendrank": 1} if series.name.startswith("front") else {})


class _Labels:
    """The hover texts of a report's points, each made once for all panels."""

    def __init__(self, report: RunReport, finetunings: Sequence[Finetuning]) -> None:
        self._columns, self._scored = report.columns, report.scored
        self._numbers = {member.architecture: number for number, member in enumerate(report.front)}
        # Points hold mappings, so they have no hash.
        self._finetuned = {id(finetuning.after): finetuning for finetuning in finetunings}
        self._text_by_point: dict[int, tuple[Point, str]] = {}

    def hover_text(self, point: Point) -> str:
        """A hover text in the subset of HTML that plotly reads, with names escaped."""
        if id(point) not in self._text_by_point:
            self._text_by_point[id(point)] = point, self._label(point)
        return self._text_by_point[id(point)][1]

    def _label(self, point: Point) -> str:
        number, finetuned = self._numbers.get(point.architecture), self._finetuned.get(id(point))
        head = str(point.source) if number is None else f"number {number} on the front"
        if finetuned is not None:
            head = "\n".join([f"{FINETUNED_NAME} by {finetuned.run}", *finetuned.summary, head])
        elif point.source == "predicted":
            head = PREDICTED_NAME
        lines = [f"<b>{escape(line)}</b>" for line in head.split("\n")]
        for metric in self._columns:
            if metric.name in point.values:
                text = format_value(metric, point.values[metric.name], point.errors[metric.name])
                lines.append(f"{escape(metric.name)}  <b>{escape(text)}</b>")
        if point.test is not None:
            text = score_text(self._scored, point.test)
            lines.append(f"{escape(self._scored.name)} on the test part  <b>{escape(text)}</b>")
        return "<br>".join([*lines, "", *map(escape, _described_lines(point))])


def _described_lines(point: Point) -> list[str]:
    """The architecture's options, those of one stage together: ``stage1  depth 2, block1.kernel 3, ...``."""
    stages: dict[str, list[str]] = {}
    for name, value in point.described.items():
        stage, _, option = name.partition(".")
        stages.setdefault(stage if option else "", []).append(f"{option or name}\N{NO-BREAK SPACE}{value}")
    lines = []
    for stage, options in stages.items():
        lines += wrap(", ".join(options), width=72, initial_indent=f"{stage}  " if stage else "")
    return lines


def _share(place: int, n: int, *, gap: float) -> list[float]:
    """Start and end of a panel along one side of the chart, which has `n` of the same size with gaps between them."""
    size = (1 - gap * (n - 1)) / n
    start = place * (size + gap)
    return [start, min(start + size, 1.0)]


def _axis(shown: Axis) -> dict[str, Any]:
    title = {"text": escape(shown.title), "standoff": 10, "font": {"size": 13}}
    axis: dict[str, Any] = {"title": title, "showline": True, "zeroline": False}
    if shown.ticks:
        axis |= {"type": "log", "tickvals": list(shown.ticks), "ticktext": [f"{tick:g}" for tick in shown.ticks]}
    return axis


def _add_line(
    layout: dict[str, Any],
    side: str,
    at: float,
    text: str,
    place: str = "",
    *,
    is_log: bool = False,
    left: bool = False,
) -> None:
    """Adds a dashed line across the panel of this place, with its text."""
    line = {"dash": "dash", "width": 1.2, "color": "#5F6770"}
    where = math.log10(at) if is_log and at > 0 else at  # annotations of a log axis are placed by exponent
    words: dict[str, Any] = {"text": escape(text), "showarrow": False, "font": {"size": 12}, "yanchor": "bottom"}
    if side == "x":
        refs = {"xref": f"x{place}", "yref": f"y{place} domain"}
        ends = {"x0": at, "x1": at, "y0": 0, "y1": 1}
        words |= {"x": where, "y": 0.02, "xanchor": "right" if left else "left", "xshift": -4 if left else 4}
    else:
        refs = {"xref": f"x{place} domain", "yref": f"y{place}"}
        ends = {"x0": 0, "x1": 1, "y0": at, "y1": at}
        words |= {"x": 1, "y": where, "xanchor": "right"}
    layout["shapes"].append({"type": "line", "line": line, **ends, **refs})
    layout["annotations"].append({**words, **refs})


def _layout() -> dict[str, Any]:
    font = {"family": 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif', "size": 13}
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": font,
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "xanchor": "left"},
        "hoverlabel": {"align": "left", "bgcolor": "#22262B", "font": {**font, "size": 12, "color": "#FFFFFF"}},
        "hovermode": "closest",
        "shapes": [],
        "annotations": [],
    }
