"""One self-contained HTML page of a run (plotly): both charts with hover, and the front as a table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from textwrap import wrap
from typing import Any

from nas.export import charts
from nas.export.report import SHORT, Point, RunReport, is_short
from nas.export.select import Limit
from nas.export.units import constraint_text, figure_text, miss_text, title_of
from nas.objectives import Objective

_CONFIG = {"displayModeBar": False, "responsive": True}  # a double click resets the zoom

_FRONT_SHADES = {"light": charts.FRONT_COLOUR, "dark": charts.FRONT_COLOUR_DARK}
_PREDICTED_SHADES = {"light": charts.PREDICTED_COLOUR, "dark": charts.PREDICTED_COLOUR_DARK}

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --paper: #ffffff; --ink: #22262b; --soft: #5f6770; --rule: #e4e7ea; --hover: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15191e; --ink: #e8ebee; --soft: #a3acb6; --rule: #2e353d; --hover: #1d232a; }
}
body { margin: 0 auto; max-width: 1120px; padding: 2rem 1.5rem 3rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; }
p { margin: .2rem 0; color: var(--soft); }
.scroll { overflow-x: auto; }
.picture { background: #ffffff; border-radius: 6px; }
.picture svg { display: block; width: 100%; height: auto; min-width: 640px; max-width: 1000px; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin-top: .6rem; }
th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); vertical-align: top;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
th:last-child, td:last-child { text-align: left; white-space: normal; width: 45%; }
tbody tr:hover { background: var(--hover); }
code { font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; }
details p { font-size: .85rem; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>$title</h1>
<p>$line</p>
$notes
$front
$convergence
$pictures
<h2>Members of the front</h2>
<div class="scroll">$table</div>
<script>
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function repaint() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    for (const chart of document.querySelectorAll(".plotly-graph-div")) {
      const changes = { "font.color": colour("--ink") };
      for (const name of Object.keys(chart.layout)) {
        if (!/^[xy]axis\\d*$$/.test(name)) continue;
        changes[name + ".gridcolor"] = colour("--rule");
        changes[name + ".linecolor"] = colour("--soft");
      }
      (chart.layout.shapes || []).forEach((_, i) => { changes["shapes[" + i + "].line.color"] = colour("--soft"); });
      Plotly.relayout(chart, changes);
      chart.data.forEach((trace, i) => {
        if (!trace.meta) return;
        const shade = dark.matches ? trace.meta.dark : trace.meta.light;
        const parts = ["line.color", "marker.color", "error_x.color", "error_y.color"];
        Plotly.restyle(chart, Object.fromEntries(parts.map((part) => [part, shade])), [i]);
      });
    }
  }
  dark.addEventListener("change", repaint);
  repaint();
})();
</script>
</body>
</html>
""")


def page(report: RunReport, *, limits: Sequence[Limit] = (), pictures: Mapping[str, str] | None = None) -> str:
    """The page as text; needs no network and holds plotly's script (about 5 MB).

    Args:
        pictures: further ones by their titles, as SVG files.

    Raises:
        NasError: as `charts.panels`.
    """
    title, line = charts.heading(report)
    drawn = _front_chart(report, limits)
    front = "" if drawn is None else "<h2>The front</h2>\n" + drawn.to_html(
        full_html=False, include_plotlyjs=True, config=_CONFIG, div_id="front", default_height=f"{_height(report)}px"
    )  # fmt: skip
    curve = _convergence_chart(report)
    convergence = ""
    if curve is not None:
        chart = curve.to_html(
            full_html=False,
            include_plotlyjs=drawn is None,
            config=_CONFIG,
            div_id="convergence",
            default_height="360px",
        )
        reference = ", ".join(f"{o.name} {figure_text(o, report.reference[o.name])}" for o in report.objectives)
        told = f"Hypervolume of the figures seen while searching, from the reference point {reference}."
        if len(report.objectives) == 1:
            told = "The best figure seen while searching."
        convergence = f"<h2>Convergence</h2>\n<p>{escape(told)}</p>\n{chart}"
    return _PAGE.substitute(
        title=escape(title), line=escape(line), notes=_notes(report), front=front, convergence=convergence,
        pictures=_pictures(pictures or {}), table=_table(report),
    )  # fmt: skip


def _pictures(pictures: Mapping[str, str]) -> str:
    """SVG files as parts of the page, each of a width at which its text can be read, on white paper."""
    parts = []
    for number, (title, file) in enumerate(pictures.items()):
        svg = file[file.index("<svg") :]
        # Names inside are the page's now: each picture's own.
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{number}-", svg)
        parts.append(f'<h2>{escape(title)}</h2>\n<div class="scroll picture">{svg}</div>')
    return "\n".join(parts)


def _notes(report: RunReport) -> str:
    """What the networks must keep, and the nearest where none does."""
    lines = []
    if report.constraints:
        lines.append(f"Limits: {', '.join(constraint_text(c) for c in report.constraints)}.")
    if report.nearest is not None and report.nearest.miss.broken:
        lines.append(f"No network keeps them; the nearest has {miss_text(report.nearest.miss)}.")
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def _height(report: RunReport) -> int:
    n_rows = (len(charts.panels(report)) + 1) // 2
    return 520 if n_rows == 1 else 440 * n_rows


def _front_chart(report: RunReport, limits: Sequence[Limit]) -> Any | None:
    """The charts of all panels; None where there are none."""
    from plotly.subplots import make_subplots

    panels = charts.panels(report)
    if not panels:
        return None
    n_columns = min(2, len(panels))
    n_rows = (len(panels) + n_columns - 1) // n_columns
    figure = make_subplots(rows=n_rows, cols=n_columns, horizontal_spacing=0.1, vertical_spacing=0.32 / n_rows)
    named: set[str] = set()
    for number, panel in enumerate(panels):
        place = {"row": number // n_columns + 1, "col": number % n_columns + 1}
        for trace in _traces(report, panel):
            figure.add_trace({"showlegend": trace["name"] not in named, "legendgroup": trace["name"], **trace}, **place)
            named.add(trace["name"])
        for axis, objective in (("x", panel.x), ("y", panel.y)):
            _dress(figure, axis, objective, report, place)
            for at, text in charts.limits_on(limits, objective):
                _limit_line(figure, axis, at, text, place, is_log=charts.is_log(report, objective))
    _dress_chart(figure)
    return figure


def _traces(report: RunReport, panel: charts.Panel) -> list[dict[str, Any]]:
    """Plotly scatter traces of one panel, back to front."""
    front = charts.front_in(report, panel)
    traces = _measured_traces(report, panel, joined=front.joined)
    traces += _predicted_traces(report, panel, joined=front.joined)
    if front.others:
        pale = {"color": charts.FRONT_COLOUR, "size": 7, "opacity": 0.45, "line": {"width": 0}}
        others = _trace(report, panel, front.others, charts.JOINT_NAME)
        traces.append(others | {"mode": "markers", "marker": pale, "meta": _FRONT_SHADES})
    bars = {"color": charts.FRONT_COLOUR, "thickness": 1.2, "width": 0, "type": "data"}
    symbols = [charts.MARKS[point.precision].symbol for point in front.points]
    traces.append(
        _trace(report, panel, front.points, front.name)
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
        nearest = _trace(report, panel, [report.nearest.point], charts.NEAREST_NAME)
        traces.append(nearest | {"mode": "markers", "marker": star})
    ends = {"smallest": ("triangle-down", charts.SMALLEST_COLOUR), "largest": ("triangle-up", charts.LARGEST_COLOUR)}
    for name, point in report.anchors.items():
        symbol, colour = ends[name]
        marker = {"color": colour, "size": 14, "symbol": symbol, "line": {"color": "white", "width": 1}}
        traces.append(_trace(report, panel, [point], f"{name} network") | {"mode": "markers", "marker": marker})
    return traces


def _many_trace(panel: charts.Panel, points: Sequence[Point], name: str) -> dict[str, Any]:
    """As `_trace`, drawn by the graphics processor, with the two figures and the key alone on hover."""
    x, y = (escape(title_of(objective)) for objective in (panel.x, panel.y))
    return {
        "type": "scattergl",
        "name": name,
        "x": charts.figures(points, panel.x),
        "y": charts.figures(points, panel.y),
        "customdata": [point.key for point in points],
        "hovertemplate": f"{x} <b>%{{x:.5g}}</b><br>{y} <b>%{{y:.5g}}</b><br>%{{customdata}}<extra></extra>",
    }


def _measured_traces(report: RunReport, panel: charts.Panel, *, joined: bool) -> list[dict[str, Any]]:
    """What is not on the front, by precision, and the line of each precision's own front where there are several."""
    traces = []
    if broken := charts.breaking(report):
        cross = {
            "color": charts.EVALUATED_COLOUR,
            "size": 6,
            "symbol": "x-thin-open",
            "opacity": 0.75,
            "line": {"width": 1},
        }
        trace = _trace(report, panel, broken, charts.BREAKING_NAME)
        traces.append(trace | {"mode": "markers", "marker": cross})
    for precision, points in charts.by_precision(charts.muted(report)).items():
        mark = charts.MARKS[precision]
        marker = {"color": mark.grey, "size": 7, "symbol": mark.symbol, "opacity": 0.75, "line": {"width": 0}}
        shades = {"light": mark.grey, "dark": mark.grey_dark}
        name = charts.named("measured", precision)
        many = len(points) > charts.MANY
        trace = _many_trace(panel, points, name) if many else _trace(report, panel, points, name)
        traces.append(trace | {"mode": "markers", "marker": marker, "meta": shades})
    for precision, points in charts.precision_fronts(report, panel).items() if joined else ():
        mark = charts.MARKS[precision]
        trace = _trace(report, panel, points, charts.alone(precision))
        line = {"color": mark.grey, "width": 1}
        shades = {"light": mark.grey, "dark": mark.grey_dark}
        traces.append(trace | {"mode": "lines", "line": line, "meta": shades, "hoverinfo": "skip"})
    return traces


def _predicted_traces(report: RunReport, panel: charts.Panel, *, joined: bool) -> list[dict[str, Any]]:
    """Hollow markers and, where the front is a line, the dashed line of the best predictions."""
    predicted = charts.placeable(report.predicted, panel)
    if not predicted:
        return []
    hollow = {"color": charts.PREDICTED_COLOUR, "size": 8, "symbol": "diamond-open", "line": {"width": 1.5}}
    dots = _trace(report, panel, predicted, charts.PREDICTED_NAME) | {"mode": "markers", "marker": hollow}
    traces = [dots | {"meta": _PREDICTED_SHADES}]
    if joined:
        edge = _trace(report, panel, charts.non_dominated_of(predicted, panel), charts.PREDICTED_NAME)
        line = {"color": charts.PREDICTED_COLOUR, "dash": "dash", "width": 1.5}
        traces.append(edge | {"mode": "lines", "line": line, "meta": _PREDICTED_SHADES, "showlegend": False})
    return traces


def _trace(report: RunReport, panel: charts.Panel, points: Sequence[Point], name: str) -> dict[str, Any]:
    numbers = {member.architecture: number for number, member in enumerate(report.front)}
    return {
        "type": "scatter",
        "name": name,
        "x": charts.figures(points, panel.x).tolist(),
        "y": charts.figures(points, panel.y).tolist(),
        "customdata": [_hover(report, point, numbers.get(point.architecture)) for point in points],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _hover(report: RunReport, point: Point, number: int | None) -> str:
    """Lines of a hover label; names are escaped, since plotly reads a subset of HTML."""
    head = str(point.source) if number is None else f"number {number} on the front"
    if point.source == "predicted":
        head = charts.PREDICTED_NAME
    lines = [f"<b>{escape(head)}</b>"]
    for objective in report.columns:
        if objective.name in point.values:
            text = figure_text(objective, point.values[objective.name], point.errors[objective.name])
            lines.append(f"{escape(objective.name)}  <b>{escape(text)}</b>")
    if point.test is not None:
        lines.append(f"accuracy on the test part  <b>{_test_text(point)}</b>")
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


def _test_text(point: Point) -> str:
    if point.test is None:
        return "–"
    return figure_text(Objective.parse("accuracy", ()), point.test["accuracy"], point.test["error"])


def _dress(figure: Any, axis: str, objective: Objective, report: RunReport, place: dict[str, int]) -> None:
    update = figure.update_xaxes if axis == "x" else figure.update_yaxes
    scale: dict[str, Any] = {}
    if charts.is_log(report, objective):
        ticks = charts.log_ticks(report, objective)
        scale = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    update(title=_axis_title(escape(title_of(objective))), showline=True, zeroline=False, **scale, **place)


def _axis_title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 10, "font": {"size": 13}}


def _limit_line(
    figure: Any, axis: str, at: float, text: str, place: dict[str, int], *, is_log: bool, left: bool = False
) -> None:
    """A dashed line across one panel with its text; by hand: plotly's `add_vline` misplaces text on logs."""
    line = {"dash": "dash", "width": 1.2, "color": "#5F6770"}
    where = math.log10(at) if is_log and at > 0 else at  # annotations of a log axis are placed by exponent
    words = {"text": escape(text), "showarrow": False, "font": {"size": 12}}
    if axis == "x":
        figure.add_shape(type="line", x0=at, x1=at, y0=0, y1=1, xref="x", yref="y domain", line=line, **place)
        side = "right" if left else "left"
        shift = -4 if left else 4
        words |= {"x": where, "y": 0.02, "yref": "y domain", "xanchor": side, "yanchor": "bottom", "xshift": shift}
    else:
        figure.add_shape(type="line", x0=0, x1=1, y0=at, y1=at, xref="x domain", yref="y", line=line, **place)
        words |= {"x": 1, "y": where, "xref": "x domain", "xanchor": "right", "yanchor": "bottom"}
    figure.add_annotation(words, **place)


def _dress_chart(figure: Any) -> None:
    font = {"family": 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif', "size": 13}
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font=font,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "xanchor": "left"},
        hoverlabel={"align": "left", "bgcolor": "#22262B", "font": {**font, "size": 12, "color": "#FFFFFF"}},
        hovermode="closest",
    )


def _convergence_chart(report: RunReport) -> Any | None:
    import plotly.graph_objects as go

    curve = charts.convergence(report)
    if curve is None:
        return None
    numbers, n_anchors = curve.evaluations.tolist(), len(report.anchors)
    unit = " %" if len(report.objectives) > 1 else ""
    hover = f"after %{{x}} evaluations: %{{y:.4g}}{unit}<extra></extra>"
    figure = go.Figure()
    figure.add_scatter(
        x=numbers,
        y=curve.share.tolist(),
        mode="lines",
        line={"shape": "hv", "color": charts.FRONT_COLOUR, "width": 2.5},
        name=curve.name,
        meta=_FRONT_SHADES,
        hovertemplate=hover,
    )
    figure.add_scatter(
        x=numbers[:n_anchors],
        y=curve.share[:n_anchors].tolist(),
        mode="markers",
        marker={"color": charts.SMALLEST_COLOUR, "size": 10},
        name="smallest and largest network",
        hovertemplate=hover,
    )
    if curve.close_at is not None:
        _limit_line(figure, "x", curve.close_at, curve.close_text, {}, is_log=False, left=curve.close_late)
    figure.update_xaxes(title=_axis_title("Evaluations"), showline=True, zeroline=False)
    figure.update_yaxes(title=_axis_title(curve.title), showline=True, zeroline=False)
    _dress_chart(figure)
    return figure


def _table(report: RunReport) -> str:
    profiles = ["On the front of"] if report.fronts else []
    titles = ["Number", *(title_of(o) for o in report.columns), "Test accuracy", *profiles, "Architecture"]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    points = [(str(number), point) for number, point in enumerate(report.front)]
    if report.nearest is not None:
        points.append(("nearest", report.nearest.point))
    rows = "\n".join(_row(report, label, point) for label, point in points)
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    short = any(is_short(report, point) for _, point in points)
    return f"{table}\n<p>* {SHORT}</p>" if short else table


def _row(report: RunReport, label: str, point: Point) -> str:
    short = is_short(report, point)
    figures = [
        figure_text(o, point.values[o.name], point.errors[o.name]) + (" *" if short and o.profile is not None else "")
        for o in report.columns
    ]
    profiles = [p for p, front in report.fronts.items() if point.key in {member.key for member in front}]
    own = [", ".join(profiles) or "–"] if report.fronts else []
    cells = "".join(f"<td>{escape(text)}</td>" for text in [label, *figures, _test_text(point), *own])
    described = ", ".join(f"{name} {value}" for name, value in point.described.items())
    return (
        f"<tr>{cells}<td><details><summary><code>{escape(point.key)}</code></summary>"
        f"<p>{escape(described)}</p></details></td></tr>"
    )
