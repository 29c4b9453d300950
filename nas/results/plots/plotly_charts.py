"""Draws charts with plotly: its traces and layouts as plain data, alone or as parts of a page.

Plotly's Python package is not imported: importing it and validating a chart takes longer than reading a run of thousands
of networks. The tests validate the same data with it.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from nas.results.analysis.network_values import keys_of
from nas.results.plots import colours
from nas.results.plots.charts import Array, Axis, Cells, Chart, Guide, Panel, Series

_CONFIG = {"displayModeBar": False, "responsive": True}  # a double click resets the zoom
_DIV = Template("""<div style="height:$height; width:100%;"><div id="$name" class="plotly-graph-div" \
style="height:100%; width:100%;"></div>
<script>Plotly.newPlot("$name", $traces, $layout, $config);</script></div>""")
_PIXELS_AN_INCH = 96
_FEW_INTEGERS = 12
"""Up to this many, plotly would choose ticks between integers."""
_SHAPES = {"": "linear", "after": "hv", "before": "vh"}


@dataclass(frozen=True, slots=True)
class Figure:
    """The arguments of `Plotly.newPlot`: traces in drawing order, the layout, and the height as a CSS length.

    The ``meta`` of a trace has its colours on a light and on a dark page, and the opacity of its error bars as two digits: with
    these, the script of a page recolours it when the theme changes.
    """

    traces: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    height: str

    def div(self, name: str) -> str:
        """The figure as a part of a page that has `script` before it; `name` must be unique in the page."""
        parts = {"traces": self.traces, "layout": self.layout, "config": _CONFIG}
        return _DIV.substitute(name=name, height=self.height, **{part: _json(value) for part, value in parts.items()})


def script() -> str:
    """Plotly's script as a part of a page (about 5 MB)."""
    text = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return f"<script>window.PlotlyConfig = {{MathJaxConfig: 'local'}};</script>\n<script>{text}</script>"


def figure_of(chart: Chart) -> Figure:
    """The figure of a chart of series and cells, with at most two panels beside each other."""
    n_columns = min(2, len(chart.panels))
    n_rows = math.ceil(len(chart.panels) / n_columns)
    layout, traces = _layout(), []
    for number, panel in enumerate(chart.panels):
        place = str(number + 1) if number else ""  # plotly's suffix of the panel's axes
        panel_axes = {"xaxis": f"x{place}", "yaxis": f"y{place}"}
        traces += [_heatmap(mark, panel) | panel_axes for mark in panel.marks if isinstance(mark, Cells)]
        traces += [trace(chart, panel, series) | panel_axes for series in panel.series]
        row, column = divmod(number, n_columns)
        across, along = _share(column, n_columns, gap=0.1), _share(n_rows - 1 - row, n_rows, gap=0.32 / n_rows)
        layout[f"xaxis{place}"] = axis_layout(panel.x) | {"domain": across, "anchor": f"y{place}"}
        spans = [float(np.ptp(series.x)) for series in panel.series if series.x.size]
        if panel.x.is_integer and max(spans, default=0.0) <= _FEW_INTEGERS:
            layout[f"xaxis{place}"]["dtick"] = 1
        layout[f"yaxis{place}"] = axis_layout(panel.y) | {"domain": along, "anchor": f"x{place}"}
        for guide in panel.guides:
            _add_guide(layout, guide, place, is_log=(panel.x if guide.side == "x" else panel.y).is_log)
    height = _PIXELS_AN_INCH * chart.size[1] if n_rows == 1 else 440 * n_rows
    return Figure(traces, layout, f"{height:.0f}px")


def trace(chart: Chart, panel: Panel, series: Series, *, has_values: bool = True) -> dict[str, Any]:
    """The plotly trace of a series; of many points drawn by the graphics processor, with short hover texts.

    Args:
        chart, panel: The chart of the series, and its panel.
        has_values: False to leave out positions, errors and hover texts, for a page whose script adds them.
    """
    look = series.look
    data = {
        "name": series.name,
        "legendgroup": series.name,
        "showlegend": chart.legend.get(series.name) is series,
        "legendrank": 1 + series.rank,
        "type": "scattergl" if series.is_cloud else "scatter",
        "mode": "+".join([*(["lines"] if look.line else []), *(["markers"] if look.symbol else [])]),
        "line": {
            "color": look.colour.light,
            "width": look.width,
            "dash": look.line or "solid",
            "shape": _SHAPES[look.steps],
        },
        "meta": asdict(look.colour) | {"errors": f"{round(255 * look.errors):02x}"},
    }
    if look.symbol:
        data["marker"] = _marker(series)
    else:
        data["opacity"] = look.opacity
    for side, errors in (("x", series.x_errors), ("y", series.y_errors)):
        if look.errors and errors is not None:
            data[f"error_{side}"] = _bars(series) | ({"array": _numbers(errors)} if has_values else {})
    return data | _values(chart, panel, series) if has_values else data


def _heatmap(cells: Cells, panel: Panel) -> dict[str, Any]:
    """The plotly trace of cells, whose colour covers what is behind it by their shares, so that it fits any page."""
    colour, rows, columns = colours.FRONT, panel.y.labels, panel.x.labels
    red, green, blue = (int(colour.light[i : i + 2], 16) for i in (1, 3, 5))
    data: dict[str, Any] = {
        "type": "heatmap",
        "z": [_numbers(row) for row in 100 * cells.shares],
        "zmin": 0,
        "zmax": 100,
        "colorscale": [[0, f"rgba({red},{green},{blue},0)"], [1, f"rgba({red},{green},{blue},0.6)"]],
        "showscale": False,
        "showlegend": False,
        "xgap": 1,
        "ygap": 1,
        "customdata": [[f"{escape(row)} as {escape(column)}" for column in columns] for row in rows],
        "hovertemplate": "%{customdata}: %{z:.1f} %<extra></extra>",
        "meta": asdict(colour) | {"errors": "00"},
    }
    return data | ({"text": cells.texts, "texttemplate": "%{text}"} if cells.texts else {})


def _marker(series: Series) -> dict[str, Any]:
    look, is_thin = series.look, series.look.symbol == "x-thin"
    return {
        "color": look.colour.light,
        "size": look.size,
        "opacity": look.opacity,
        "symbol": f"{look.symbol}{'-open' if look.hollow or is_thin else ''}",
        "line": {"width": 1 if is_thin else 0.17 * look.size if look.hollow else 0},
    }


def _bars(series: Series) -> dict[str, Any]:
    muted = f"{series.look.colour.light}{round(255 * series.look.errors):02x}"
    return {"color": muted, "thickness": 1.2, "width": 0, "type": "data"}


def _values(chart: Chart, panel: Panel, series: Series) -> dict[str, Any]:
    """The positions of a series' points, and their hover texts."""
    if series.is_cloud:
        x, y = escape(panel.x.title), escape(panel.y.title)
        return {
            "x": _bytes(series.x),
            "y": _bytes(series.y),
            "customdata": list(keys_of(series.points)),
            "hovertemplate": f"{x} <b>%{{x:.5g}}</b><br>{y} <b>%{{y:.5g}}</b><br>%{{customdata}}<extra></extra>",
        }
    values: dict[str, Any] = {"x": _numbers(series.x), "y": _numbers(series.y)}
    if series.hover:
        template = escape(series.hover, quote=False).replace("{", "%{")
        return values | {"hovertemplate": f"{template}<extra></extra>"}
    texts = list(series.texts)
    if series.look.symbol and series.points:
        texts = [chart.describe(point) for point in series.points]
        values["ids"] = list(keys_of(series.points))  # by which a click selects networks
    if not texts:
        return values | {"hoverinfo": "skip"}
    return values | {"customdata": texts, "hovertemplate": "%{customdata}<extra></extra>"}


def axis_layout(axis: Axis) -> dict[str, Any]:
    """The layout of an axis."""
    title = {"text": escape(axis.title), "standoff": 8, "font": {"size": 12}}
    layout: dict[str, Any] = {"title": title, "showline": True, "zeroline": False}
    if axis.is_log:
        layout |= {"type": "log", "tickvals": list(axis.ticks), "ticktext": [f"{tick:g}" for tick in axis.ticks]}
    elif axis.labels:
        texts = [escape(label) for label in axis.labels]
        layout |= {"tickvals": list(axis.ticks), "ticktext": texts, "showgrid": False, "automargin": True}
        if not axis.is_rows:
            layout["tickangle"] = 90
    if axis.range != (None, None):
        layout["range"] = [None if end is None else math.log10(end) if axis.is_log else end for end in axis.range]
    return layout


def _add_guide(layout: dict[str, Any], guide: Guide, place: str, *, is_log: bool) -> None:
    """Adds a dashed line across the panel of this place, with its text."""
    line = {"dash": "dash", "width": 1.2, "color": "#5F6770"}
    # Annotations of a log axis are placed by exponent.
    where = math.log10(guide.at) if is_log and guide.at > 0 else guide.at
    text: dict[str, Any] = {"text": escape(guide.text), "showarrow": False, "font": {"size": 12}, "yanchor": "bottom"}
    if guide.side == "x":
        is_left = guide.text_side == "left"
        refs = {"xref": f"x{place}", "yref": f"y{place} domain"}
        ends = {"x0": guide.at, "x1": guide.at, "y0": 0, "y1": 1}
        text |= {"x": where, "y": 0.02, "xanchor": "right" if is_left else "left", "xshift": -4 if is_left else 4}
    else:
        refs = {"xref": f"x{place} domain", "yref": f"y{place}"}
        ends = {"x0": 0, "x1": 1, "y0": guide.at, "y1": guide.at}
        text |= {"x": 1, "y": where, "xanchor": "right"}
    layout["shapes"].append({"type": "line", "line": line, **ends, **refs})
    layout["annotations"].append({**text, **refs})


def _share(place: int, n: int, *, gap: float) -> list[float]:
    """Start and end of a panel along one side of the chart, which has `n` of the same size with gaps between them."""
    size = (1 - gap * (n - 1)) / n
    start = place * (size + gap)
    return [start, min(start + size, 1.0)]


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


def _numbers(values: Array) -> list[float | None]:
    """Numbers (n,) as JSON has them; NaN is a gap."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def _bytes(values: Array) -> dict[str, str]:
    """Numbers (n,) as bytes, which plotly's script reads fastest."""
    return {"dtype": "f8", "bdata": b64encode(values.astype("<f8").tobytes()).decode()}


def _json(value: Any) -> str:
    """JSON in which no text ends the script element that holds it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
