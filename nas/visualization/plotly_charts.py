"""The charts of a run's page, as plotly draws them: what is measured and predicted, with hover, and the convergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from textwrap import wrap
from typing import Any

from nas.analysis.finetuned_runs import Finetuning
from nas.analysis.formatting import format_value, title_of
from nas.analysis.points import Point
from nas.analysis.report import RunReport
from nas.analysis.selection import Limit
from nas.problem.objectives import Objective
from nas.visualization import chart_data as charts
from nas.visualization.plotly_embedding import Chart, array

_FRONT_SHADES = {"light": charts.FRONT_COLOUR, "dark": charts.FRONT_COLOUR_DARK}
_PREDICTED_SHADES = {"light": charts.PREDICTED_COLOUR, "dark": charts.PREDICTED_COLOUR_DARK}
_FURTHER_SHADES = {"light": charts.FURTHER_COLOUR, "dark": charts.FURTHER_COLOUR_DARK}


def front_chart(report: RunReport, limits: Sequence[Limit], further: Sequence[Finetuning] = ()) -> Chart | None:
    """The front among everything measured and predicted, one panel a pair of figures; None where there are none.

    Raises:
        NasError: as `charts.panels`.
    """
    panels = charts.panels(report)
    if not panels:
        return None
    n_columns = min(2, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    unshown = charts.unshown(report)
    traces: list[dict[str, Any]] = []
    layout = _layout()
    labels, named = _Labels(report), set[str]()
    for number, panel in enumerate(panels):
        place = str(number + 1) if number else ""  # how plotly tells the panels' axes apart
        for trace in [*_traces(report, labels, panel, unshown), *_further_traces(labels, panel, further)]:
            legend = {"showlegend": trace["name"] not in named, "legendgroup": trace["name"]}
            traces.append({**legend, **trace, "xaxis": f"x{place}", "yaxis": f"y{place}"})
            named.add(trace["name"])
        row, column = divmod(number, n_columns)
        layout[f"xaxis{place}"] = _axis(report, panel.x) | {
            "domain": _share(column, n_columns, gap=0.1), "anchor": f"y{place}"
        }  # fmt: skip
        layout[f"yaxis{place}"] = _axis(report, panel.y) | {
            "domain": _share(n_rows - 1 - row, n_rows, gap=0.32 / n_rows), "anchor": f"x{place}"
        }  # fmt: skip
        for axis, objective in (("x", panel.x), ("y", panel.y)):
            for at, text in charts.limits_on(limits, objective):
                _add_limit_line(layout, axis, at, text, place, is_log=charts.is_log(report, objective))
    return Chart(traces, layout, f"{520 if n_rows == 1 else 440 * n_rows}px")


def convergence_chart(report: RunReport) -> Chart | None:
    """How the hypervolume grew with the evaluations; None while there is none above 0."""
    curve = charts.convergence(report)
    if curve is None:
        return None
    n_anchors = len(report.anchors)
    unit = " %" if len(report.objectives) > 1 else ""
    hover = {"type": "scatter", "hovertemplate": f"after %{{x}} evaluations: %{{y:.4g}}{unit}<extra></extra>"}
    line = hover | {
        "x": array(curve.evaluations),
        "y": array(curve.share),
        "mode": "lines",
        "line": {"shape": "hv", "color": charts.FRONT_COLOUR, "width": 2.5},
        "name": curve.name,
        "meta": _FRONT_SHADES,
    }
    anchors = hover | {
        "x": array(curve.evaluations[:n_anchors]),
        "y": array(curve.share[:n_anchors]),
        "mode": "markers",
        "marker": {"color": charts.SMALLEST_COLOUR, "size": 10},
        "name": "smallest and largest network",
    }
    layout = _layout()
    if curve.close_at is not None:
        _add_limit_line(layout, "x", curve.close_at, curve.close_text, "", is_log=False, left=curve.close_late)
    layout |= {"xaxis": _plain_axis("Evaluations"), "yaxis": _plain_axis(curve.title)}
    return Chart([line, anchors], layout, "360px")


def _traces(report: RunReport, labels: _Labels, panel: charts.Panel, unshown: charts.Unshown) -> list[dict[str, Any]]:
    """Plotly scatter traces of one panel, back to front."""
    front = charts.front_in(report, panel)
    traces = _measured_traces(report, labels, panel, unshown, joined=front.joined)
    traces += _predicted_traces(report, labels, panel, joined=front.joined)
    if front.others:
        pale = {"color": charts.FRONT_COLOUR, "size": 7, "opacity": 0.45, "line": {"width": 0}}
        others = _trace(labels, panel, front.others, charts.JOINT_NAME)
        traces.append(others | {"mode": "markers", "marker": pale, "meta": _FRONT_SHADES})
    bars = {"color": charts.FRONT_COLOUR, "thickness": 1.2, "width": 0, "type": "data"}
    symbols = [charts.MARKS[point.precision].symbol for point in front.points]
    traces.append(
        _trace(labels, panel, front.points, front.name)
        | {
            "mode": "lines+markers" if front.joined else "markers",
            "line": {"color": charts.FRONT_COLOUR, "width": 2},
            "marker": {"color": charts.FRONT_COLOUR, "size": 9, "symbol": symbols, "line": {"width": 0}},
            "error_x": {**bars, "array": charts.errors(front.points, panel.x).tolist()},
            "error_y": {**bars, "array": charts.errors(front.points, panel.y).tolist()},
            "meta": _FRONT_SHADES,
            "legendrank": 1,
        }
    )
    if report.nearest is not None and report.nearest.miss.broken:
        star = {"color": "#5F6770", "size": 15, "symbol": "star", "line": {"color": "white", "width": 1}}
        nearest = _trace(labels, panel, [report.nearest.point], charts.NEAREST_NAME)
        traces.append(nearest | {"mode": "markers", "marker": star})
    ends = {"smallest": ("triangle-down", charts.SMALLEST_COLOUR), "largest": ("triangle-up", charts.LARGEST_COLOUR)}
    for name, point in report.anchors.items():
        symbol, colour = ends[name]
        marker = {"color": colour, "size": 14, "symbol": symbol, "line": {"color": "white", "width": 1}}
        traces.append(_trace(labels, panel, [point], f"{name} network") | {"mode": "markers", "marker": marker})
    return traces


def _many_trace(panel: charts.Panel, points: Sequence[Point], name: str) -> dict[str, Any]:
    """As `_trace`, drawn by the graphics processor, with the two figures and the key alone on hover."""
    x, y = (escape(title_of(objective)) for objective in (panel.x, panel.y))
    return {
        "type": "scattergl",
        "name": name,
        "x": array(charts.figures(points, panel.x)),
        "y": array(charts.figures(points, panel.y)),
        "customdata": [point.key for point in points],
        "hovertemplate": f"{x} <b>%{{x:.5g}}</b><br>{y} <b>%{{y:.5g}}</b><br>%{{customdata}}<extra></extra>",
    }


def _measured_traces(
    report: RunReport, labels: _Labels, panel: charts.Panel, unshown: charts.Unshown, *, joined: bool
) -> list[dict[str, Any]]:
    """What is not on the front, by precision, and the line of each precision's own front where there are several."""
    traces = []
    if unshown.breaking:
        cross = {
            "color": charts.EVALUATED_COLOUR,
            "size": 6,
            "symbol": "x-thin-open",
            "opacity": 0.75,
            "line": {"width": 1},
        }
        trace = _trace(labels, panel, unshown.breaking, charts.BREAKING_NAME)
        traces.append(trace | {"mode": "markers", "marker": cross})
    for precision, points in charts.by_precision(unshown.muted).items():
        mark = charts.MARKS[precision]
        marker = {"color": mark.grey, "size": 7, "symbol": mark.symbol, "opacity": 0.75, "line": {"width": 0}}
        shades = {"light": mark.grey, "dark": mark.grey_dark}
        name = charts.named("measured", precision)
        many = len(points) > charts.MANY
        trace = _many_trace(panel, points, name) if many else _trace(labels, panel, points, name)
        traces.append(trace | {"mode": "markers", "marker": marker, "meta": shades})
    for precision, points in charts.precision_fronts(report, panel).items() if joined else ():
        mark = charts.MARKS[precision]
        trace = _trace(labels, panel, points, charts.alone(precision))
        line = {"color": mark.grey, "width": 1}
        shades = {"light": mark.grey, "dark": mark.grey_dark}
        traces.append(trace | {"mode": "lines", "line": line, "meta": shades, "hoverinfo": "skip"})
    return traces


def _predicted_traces(report: RunReport, labels: _Labels, panel: charts.Panel, *, joined: bool) -> list[dict[str, Any]]:
    """Hollow markers and, where the front is a line, the dashed line of the best predictions."""
    predicted = charts.placeable(report.predicted, panel)
    if not predicted:
        return []
    hollow = {"color": charts.PREDICTED_COLOUR, "size": 8, "symbol": "diamond-open", "line": {"width": 1.5}}
    dots = _trace(labels, panel, predicted, charts.PREDICTED_NAME) | {"mode": "markers", "marker": hollow}
    traces = [dots | {"meta": _PREDICTED_SHADES}]
    if joined:
        edge = _trace(labels, panel, charts.non_dominated_of(predicted, panel), charts.PREDICTED_NAME)
        line = {"color": charts.PREDICTED_COLOUR, "dash": "dash", "width": 1.5}
        traces.append(edge | {"mode": "lines", "line": line, "meta": _PREDICTED_SHADES, "showlegend": False})
    return traces


def _further_traces(labels: _Labels, panel: charts.Panel, further: Sequence[Finetuning]) -> list[dict[str, Any]]:
    """A line from each network to a ring, which is what further training made of it."""
    ring = {"color": charts.FURTHER_COLOUR, "size": 14, "symbol": "circle-open", "line": {"width": 2.5}}
    line = {"color": charts.FURTHER_COLOUR, "width": 2.5}
    traces = []
    for one, before, after in charts.finetuned_in(further, panel):
        drawn = _trace(labels, panel, [before, after], charts.FURTHER_NAME)
        told = "<br>".join(map(escape, [f"{charts.FURTHER_NAME} by {one.run}", *one.summary]))
        drawn["customdata"] = [drawn["customdata"][0], f"<b>{told}</b><br>{drawn['customdata'][1]}"]
        marker = {**ring, "opacity": [0, 1]}
        traces.append(drawn | {"mode": "lines+markers", "marker": marker, "line": line, "meta": _FURTHER_SHADES})
    return traces


def _trace(labels: _Labels, panel: charts.Panel, points: Sequence[Point], name: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": name,
        "x": charts.figures(points, panel.x).tolist(),
        "y": charts.figures(points, panel.y).tolist(),
        "customdata": [labels.of(point) for point in points],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


class _Labels:
    """The hover labels of a report's points, each made once for all panels."""

    def __init__(self, report: RunReport) -> None:
        self._columns = report.columns
        self._numbers = {member.architecture: number for number, member in enumerate(report.front)}
        self._made: dict[int, tuple[Point, str]] = {}  # points hold mappings, so they have no hash

    def of(self, point: Point) -> str:
        """Lines of a label; names are escaped, since plotly reads a subset of HTML."""
        if id(point) not in self._made:
            self._made[id(point)] = point, self._label(point)
        return self._made[id(point)][1]

    def _label(self, point: Point) -> str:
        number = self._numbers.get(point.architecture)
        head = str(point.source) if number is None else f"number {number} on the front"
        if point.source == "predicted":
            head = charts.PREDICTED_NAME
        lines = [f"<b>{escape(head)}</b>"]
        for objective in self._columns:
            if objective.name in point.values:
                text = format_value(objective, point.values[objective.name], point.errors[objective.name])
                lines.append(f"{escape(objective.name)}  <b>{escape(text)}</b>")
        if point.test is not None:
            lines.append(f"accuracy on the test part  <b>{test_text(point)}</b>")
        lines.append("")
        lines.extend(escape(line) for line in _described_lines(point))
        return "<br>".join(lines)


def _described_lines(point: Point) -> list[str]:
    """The architecture's options, those of one stage together: ``stage1  depth 2, block1.kernel 3, ...``."""
    stages: dict[str, list[str]] = {}
    for name, value in point.described.items():
        stage, _, rest = name.partition(".")
        stages.setdefault(stage if rest else "", []).append(f"{rest or name}\N{NO-BREAK SPACE}{value}")
    lines = []
    for stage, options in stages.items():
        lines += wrap(", ".join(options), width=72, initial_indent=f"{stage}  " if stage else "")
    return lines


def test_text(point: Point) -> str:
    """Accuracy on the test part, of what was scored on it."""
    if point.test is None:
        return "–"
    return format_value(Objective.parse("accuracy", ()), point.test["accuracy"], point.test["error"])


def _share(place: int, n: int, *, gap: float) -> list[float]:
    """Where a panel begins and ends along one side of the chart, of `n` of the same size with gaps between them."""
    size = (1 - gap * (n - 1)) / n
    start = place * (size + gap)
    return [start, min(start + size, 1.0)]


def _axis(report: RunReport, objective: Objective) -> dict[str, Any]:
    axis = _plain_axis(escape(title_of(objective)))
    if charts.is_log(report, objective):
        ticks = charts.log_ticks(report, objective)
        axis |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return axis


def _plain_axis(text: str) -> dict[str, Any]:
    title = {"text": text, "standoff": 10, "font": {"size": 13}}
    return {"title": title, "showline": True, "zeroline": False}


def _add_limit_line(
    layout: dict[str, Any], axis: str, at: float, text: str, place: str, *, is_log: bool, left: bool = False
) -> None:
    """A dashed line across the panel of this place, with its text."""
    line = {"dash": "dash", "width": 1.2, "color": "#5F6770"}
    where = math.log10(at) if is_log and at > 0 else at  # annotations of a log axis are placed by exponent
    words: dict[str, Any] = {"text": escape(text), "showarrow": False, "font": {"size": 12}, "yanchor": "bottom"}
    if axis == "x":
        sides = {"xref": f"x{place}", "yref": f"y{place} domain"}
        ends = {"x0": at, "x1": at, "y0": 0, "y1": 1}
        words |= {"x": where, "y": 0.02, "xanchor": "right" if left else "left", "xshift": -4 if left else 4}
    else:
        sides = {"xref": f"x{place} domain", "yref": f"y{place}"}
        ends = {"x0": 0, "x1": 1, "y0": at, "y1": at}
        words |= {"x": 1, "y": where, "xanchor": "right"}
    layout["shapes"].append({"type": "line", "line": line, **ends, **sides})
    layout["annotations"].append({**words, **sides})


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
