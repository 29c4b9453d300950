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
from nas.results.plots import chart_data
from nas.results.plots.front_panels import front_panels
from nas.results.plots.plotly_charts import convergence_chart, front_chart
from nas.results.plots.plotly_embedding import Chart, array, script
from tests.nas.results.export.runs import BOARD, FOUR, TWO, example_run, trained_further

BOARDS = (*TWO, f"latency_ms@{BOARD}")


def shown(page: str) -> list[Any]:
    """What `Plotly.newPlot` is called with: the name, the traces, the layout and the settings."""
    start = page.index("Plotly.newPlot(") + len("Plotly.newPlot(")
    end = page.index(");</script>", start)
    found: list[Any] = json.loads(f"[{page[start:end]}]")
    return found


def check(chart: Chart) -> None:
    """Plotly raises for a property that there is not, or a value that it cannot have."""
    _, traces, layout, _ = shown(chart.div("x"))
    figure = go.Figure(data=traces, layout=layout)
    assert len(figure.data) == len(traces)


@pytest.mark.parametrize("names", [TWO, FOUR, BOARDS], ids=["two", "four", "boards"])
def test_plotly_accepts_every_chart_of_a_page(names: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    report = build_report(example_run(names), run="x")
    limits = parse_limits(report, "accuracy>=0.5")
    finetunings = trained_further(report)
    panels = front_panels(report, limits, finetunings)
    for many in (chart_data.MANY_POINTS, 5):
        monkeypatch.setattr(chart_data, "MANY_POINTS", many)
        front, convergence = front_chart(report, panels, finetunings), convergence_chart(report)
        assert front is not None
        assert convergence is not None
        check(front)
        check(convergence)


def test_panels_lie_beside_and_below_each_other() -> None:
    report = build_report(example_run(FOUR), run="x")
    chart = front_chart(report, front_panels(report))
    assert chart is not None
    places = [(chart.layout[f"xaxis{n}"]["domain"], chart.layout[f"yaxis{n}"]["domain"]) for n in ("", 2, 3, 4, 5, 6)]
    columns, rows = [[0, 0.45], [0.55, 1]], [[0.7377777, 1], [0.3688888, 0.6311111], [0, 0.2622222]]
    expected = [(column, row) for row in rows for column in columns]
    for place, wanted in zip(places, expected, strict=True):
        assert np.array(place) == pytest.approx(np.array(wanted), abs=1e-6)
    assert {trace["xaxis"] for trace in chart.traces} == {"x", "x2", "x3", "x4", "x5", "x6"}


def test_an_array_is_its_bytes() -> None:
    encoded = array(np.array([1, 2**40]))
    assert encoded["dtype"] == "f8"
    assert np.frombuffer(base64.b64decode(encoded["bdata"]), "<f8").tolist() == [1.0, 2.0**40]


def test_no_text_ends_the_script_that_holds_it() -> None:
    name = "</script><!--"
    text = Chart([{"type": "scatter", "name": name}], {}, "1px").div("x")
    assert len(re.findall("</script>", text)) == 1
    assert shown(text)[1][0]["name"] == name


def test_the_script_is_plotlys() -> None:
    assert "plotly.js v" in script()[:500]
