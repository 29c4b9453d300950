"""Charts of predictions show the values of the metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from nas.engine.predictions import Kind
from nas.results.plots.charts import Cells, Chart, Series
from nas.results.plots.matplotlib_charts import figure_of as drawn_by_matplotlib
from nas.results.plots.plotly_charts import figure_of as drawn_by_plotly
from nas.results.plots.prediction_charts import LARGEST_NAME, TITLES, chart_words, overlap_by_class, prediction_charts
from supernets.tasks.detection.average_precision import RECALLS, matched, scored
from supernets.tasks.segmentation import Segmentation, iou_by_class
from tests.nas.results.made_predictions import made_predictions

NAME = "network 7"


def _charts(kind: Kind, network: int = 1) -> dict[str, Chart]:
    return prediction_charts(made_predictions(kind).predictions, network, NAME)


def _series(chart: Chart) -> dict[str, Series]:
    return {series.name: series for series in chart.panels[0].series}


def test_curves_are_those_of_the_average_precision() -> None:
    made, curves = made_predictions("boxes"), _series(_charts("boxes")["precision_recall"])
    for name, network in ((NAME, "1-0"), (LARGEST_NAME, "2-1")):
        classes = [c for c in matched(made.outputs[network], made.labels) if c.n_boxes]
        for overlap, threshold in (("0.50", 0), ("0.75", 5)):
            expected = 100 * np.mean([c.curve()[:, threshold] for c in classes], axis=0)
            curve = curves[f"{name}, overlap {overlap}"]
            np.testing.assert_allclose(curve.y, expected, atol=1e-4)  # kept as float32
            np.testing.assert_allclose(curve.x, 100 * RECALLS)
        area = curves[f"{name}, overlap 0.50"].y.mean() / 100
        assert area == pytest.approx(scored("map_50", made.outputs[network], made.labels).value, abs=1e-6)


def test_rows_are_the_average_precision_of_classes_and_sizes() -> None:
    made, charts = made_predictions("boxes"), _charts("boxes")
    by_size, by_class = _series(charts["ap_by_size"]), _series(charts["ap_by_class"])
    for name, network in ((NAME, "1-0"), (LARGEST_NAME, "2-1")):
        metrics = ("map", "map_small", "map_medium", "map_large")
        expected = [100 * scored(metric, made.outputs[network], made.labels).value for metric in metrics]
        np.testing.assert_allclose(by_size[name].x, expected, atol=1e-4)
        assert by_class[name].x.mean() == pytest.approx(expected[0], abs=1e-4)
    n_boxes = int((made.labels[..., 0] >= 0).sum())
    rows = charts["ap_by_class"].panels[0].y.labels
    assert sum(int(row.rpartition("(")[2].rstrip(")")) for row in rows) == n_boxes
    assert charts["ap_by_size"].panels[0].y.labels[-1] == "large (no boxes)"


def test_overlaps_and_shares_follow_from_the_confusion() -> None:
    made, charts = made_predictions("masks"), _charts("masks")
    labels, outputs = made.labels, made.outputs["1-0"]
    expected = iou_by_class(outputs, labels, 11)
    np.testing.assert_allclose(overlap_by_class(made.predictions.tables["confusion"][1]), expected)
    overlaps = _series(charts["iou_by_class"])[NAME]
    miou = Segmentation().score("miou", outputs, labels).value
    assert overlaps.x.mean() == pytest.approx(100 * miou)
    [cells] = charts["confusion"].panels[0].marks
    assert isinstance(cells, Cells)
    for row in range(11):
        predicted = np.bincount(outputs[labels == row], minlength=11)
        np.testing.assert_allclose(cells.shares[row], predicted / predicted.sum())


def test_words_have_the_values_of_charts() -> None:
    charts = _charts("boxes")
    made = made_predictions("boxes")
    area = 100 * scored("map_50", made.outputs["1-0"], made.labels).value
    assert f"{NAME}, overlap 0.50: area {area:.1f} %" in chart_words(charts["precision_recall"])
    first = _series(charts["ap_by_class"])[NAME]
    words = chart_words(charts["ap_by_class"])
    assert f"{charts['ap_by_class'].panels[0].y.labels[0]}, {NAME}: {first.x[0]:.1f} %" in words
    assert "nan" not in chart_words(charts["ap_by_size"])
    confusion = made_predictions("masks").predictions.tables["confusion"][1]
    share = 100 * confusion[3, 3] / confusion[3].sum()
    assert f"{share:.0f} % as pullover" in chart_words(_charts("masks")["confusion"])


def test_the_largest_network_stands_alone() -> None:
    assert set(_series(_charts("boxes", 2)["ap_by_class"])) == {LARGEST_NAME}


def test_at_most_forty_classes_are_rows() -> None:
    predictions = made_predictions("boxes").predictions
    n = 50
    tables = {name: np.repeat(table, 5, axis=table.ndim - 1) for name, table in predictions.tables.items()}
    tables["precision"] = np.repeat(predictions.tables["precision"], 5, axis=2)
    tables["labelled"] = np.tile(np.arange(n), (3, 1))
    wide = replace(predictions, classes=tuple(f"class {i}" for i in range(n)), tables=tables)
    rows = prediction_charts(wide, 0, NAME)["ap_by_class"].panels[0].y.labels
    assert (len(rows), rows[0], rows[-1]) == (40, "class 10 (10)", "class 49 (49)")


def test_without_labelled_boxes_the_charts_say_so() -> None:
    predictions = made_predictions("boxes").predictions
    tables = {name: np.full_like(table, np.nan) for name, table in predictions.tables.items() if name != "labelled"}
    empty = replace(predictions, tables=tables | {"labelled": np.zeros((3, 10), dtype=np.int64)})
    charts = prediction_charts(empty, 0, NAME)
    assert charts["precision_recall"].panels[0].note == "no labelled boxes"
    assert all("no boxes" in row for row in charts["ap_by_size"].panels[0].y.labels)
    for chart in charts.values():
        drawn_by_matplotlib(chart)
        drawn_by_plotly(chart)


def test_without_labelled_pixels_the_charts_say_so() -> None:
    predictions = made_predictions("masks").predictions
    empty = replace(predictions, tables={"confusion": np.zeros((3, 11, 11), dtype=np.int64)})
    for chart in prediction_charts(empty, 0, NAME).values():
        assert chart.panels[0].note.startswith("no label")
        drawn_by_matplotlib(chart)
        drawn_by_plotly(chart)


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_both_libraries_draw_every_chart(kind: Kind) -> None:
    charts = _charts(kind)
    assert set(charts) < set(TITLES)
    for chart in charts.values():
        [axis] = [axis for axis in drawn_by_matplotlib(chart).axes if axis.get_label() != "<colorbar>"]
        figure = go.Figure(**_arguments(chart))
        rows = chart.panels[0].y.labels
        if rows:
            assert [label.get_text() for label in axis.get_yticklabels()] == list(rows)
            assert list(figure.layout.yaxis.ticktext) == list(rows)
            assert figure.layout.yaxis.range == (len(rows) - 0.5, -0.5)


def test_a_page_draws_cells_as_a_heat_map_of_shares() -> None:
    chart = _charts("masks")["confusion"]
    [trace] = go.Figure(**_arguments(chart)).data
    [cells] = chart.panels[0].marks
    assert isinstance(cells, Cells)
    np.testing.assert_allclose(np.array(trace.z, dtype=np.float64), 100 * cells.shares)
    assert trace.customdata[0][1] == "background as t-shirt/top"


def _arguments(chart: Chart) -> dict[str, object]:
    figure = drawn_by_plotly(chart)
    return {"data": figure.traces, "layout": figure.layout}
