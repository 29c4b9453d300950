"""Descriptions of charts: legends, scales and looks that both libraries draw alike."""

from __future__ import annotations

import numpy as np
import pytest

from nas.results.plots import colours
from nas.results.plots.charts import Axis, Bars, Chart, Guide, Look, Panel, Series, distinct_staircase
from nas.results.plots.matplotlib_charts import figure_of as drawn_by_matplotlib
from nas.results.plots.plotly_charts import figure_of as drawn_by_plotly

ONE = np.array([1.0])


def series(name: str, **options: object) -> Series:
    return Series(name, ONE, ONE, Look(colours.FRONT, "circle", **options))  # type: ignore[arg-type]


def test_a_legend_has_the_last_mark_of_each_name_and_what_matters_most_first() -> None:
    first, last = series("measured"), series("measured", size=9)
    ring, front = series("predicted", hollow=True), series("front", errors=0.4)
    panels = [Panel(Axis(), Axis(), [first, series("")]), Panel(Axis(), Axis(), [ring, last, front])]
    chart = Chart("", "", panels, (4.0, 3.0), 2)
    assert list(chart.legend.items()) == [("front", front), ("measured", last), ("predicted", ring)]
    [legend] = drawn_by_matplotlib(chart).legends
    assert [text.get_text() for text in legend.get_texts()] == ["front", "measured", "predicted"]
    shown = sorted((t for t in drawn_by_plotly(chart).traces if t["showlegend"]), key=lambda t: t["legendrank"])
    assert [trace["name"] for trace in shown] == ["front", "measured", "predicted"]


@pytest.mark.parametrize(
    ("values", "is_log"), [([1, 8], True), ([1, 7.9], False), ([0, 100], False), ([-1, 50], False)]
)
def test_an_axis_is_logarithmic_where_positive_values_span_far(values: list[float], is_log: bool) -> None:
    axis = Axis.of_values("x", np.array(values, dtype=np.float64))
    assert axis.is_log == is_log
    assert bool(axis.ticks) == is_log
    if is_log:
        assert axis.ticks[0] <= min(values) < max(values) <= axis.ticks[-1]


def test_a_logarithmic_axis_has_the_same_ends_in_both_libraries() -> None:
    axis = Axis("x", (1.0, 10.0), range=(0.5, 20.0), is_log=True)
    chart = Chart("", "", [Panel(axis, Axis("y"), [series("a")], [Guide("x", 10.0, "limit")])], (4.0, 3.0))
    [drawn] = drawn_by_matplotlib(chart).axes
    assert drawn.get_xlim() == (0.5, 20.0)
    layout = drawn_by_plotly(chart).layout
    assert layout["xaxis"]["range"] == pytest.approx(np.log10([0.5, 20.0]).tolist())
    # A line is placed by its value, and its text by the exponent.
    assert (layout["shapes"][0]["x0"], layout["annotations"][0]["x"]) == (10.0, 1.0)


def test_staircases_beside_each_other_differ() -> None:
    looks = [distinct_staircase(number) for number in range(2 * len(colours.PALETTE))]
    assert len(set(looks)) == len(looks)


def test_rows_begin_at_the_top_and_share_their_names() -> None:
    bars = Bars("share", np.array([3.0, 1.0]), 0.0, colours.FRONT)
    rows = [Panel(Axis("x"), Axis.of_rows(["a", "b"], is_hidden=bool(i)), [bars]) for i in range(2)]
    left, right = drawn_by_matplotlib(Chart("", "", rows, (4.0, 3.0), 2)).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b"]
    assert left.yaxis_inverted()
    assert not right.yaxis.get_visible()
