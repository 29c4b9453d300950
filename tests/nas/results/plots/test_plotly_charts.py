"""Charts of pages are valid for plotly's own Python."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from nas.results.analysis.network_selection import parse_limits
from nas.results.analysis.report import build_report
from nas.results.plots import charts, colours
from nas.results.plots.charts import Axis, Chart, Look, Panel, Series
from nas.results.plots.front_chart import front_chart
from nas.results.plots.plotly_charts import Figure, figure_of, script
from nas.results.plots.search_charts import convergence_chart
from tests.nas.results.export.runs import BOARD, FOUR, TWO, example_run, trained_further

BOARDS = (*TWO, f"latency_ms@{BOARD}")


def shown(page: str) -> list[Any]:
    """What `Plotly.newPlot` is called with: the name, the traces, the layout and the settings."""
    start = page.index("Plotly.newPlot(") + len("Plotly.newPlot(")
    end = page.index(");</script>", start)
    found: list[Any] = json.loads(f"[{page[start:end]}]")
    return found


def check(chart: Chart | None) -> None:
    """Plotly raises for a property that there is not, or a value that it cannot have."""
    assert chart is not None
    _, traces, layout, _ = shown(figure_of(chart).div("x"))
    figure = go.Figure(data=traces, layout=layout)
    assert len(figure.data) == len(traces)


@pytest.mark.parametrize("names", [TWO, FOUR, BOARDS], ids=["two", "four", "boards"])
def test_plotly_accepts_every_chart_of_a_page(names: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    report = build_report(example_run(names), run="x")
    limits = parse_limits(report, "accuracy>=0.5")
    finetunings = trained_further(report)
    for many in (charts.MANY_POINTS, 5):
        monkeypatch.setattr(charts, "MANY_POINTS", many)
        check(front_chart(report, limits, finetunings))
        check(convergence_chart(report))


def test_panels_lie_beside_and_below_each_other() -> None:
    report = build_report(example_run(FOUR), run="x")
    front = front_chart(report)
    assert front is not None
    chart = figure_of(front)
    places = [(chart.layout[f"xaxis{n}"]["domain"], chart.layout[f"yaxis{n}"]["domain"]) for n in ("", 2, 3, 4, 5, 6)]
    columns, rows = [[0, 0.45], [0.55, 1]], [[0.7377777, 1], [0.3688888, 0.6311111], [0, 0.2622222]]
    expected = [(column, row) for row in rows for column in columns]
    for place, wanted in zip(places, expected, strict=True):
        assert np.array(place) == pytest.approx(np.array(wanted), abs=1e-6)
    assert {trace["xaxis"] for trace in chart.traces} == {"x", "x2", "x3", "x4", "x5", "x6"}


def test_the_points_of_a_cloud_are_bytes_and_a_gap_of_others_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "MANY_POINTS", 1)
    values = np.array([1, 2.0**40])
    cloud = Series("", values, values, Look(colours.FRONT, "circle"))
    line = Series("", np.array([1.0, np.nan]), values, Look(colours.FRONT, line="solid"))
    many, few = figure_of(Chart("", "", [Panel(Axis(), Axis(), [cloud, line])], (1.0, 1.0))).traces
    assert many["x"]["dtype"] == "f8"
    assert np.frombuffer(base64.b64decode(many["x"]["bdata"]), "<f8").tolist() == [1.0, 2.0**40]
    assert few["x"] == [1.0, None]


def test_no_text_ends_the_script_that_holds_it() -> None:
    name = "</script><!--"
    text = Figure([{"type": "scatter", "name": name}], {}, "1px").div("x")
    assert len(re.findall("</script>", text)) == 1
    assert shown(text)[1][0]["name"] == name


def test_the_script_is_plotlys() -> None:
    assert "plotly.js v" in script()[:500]
