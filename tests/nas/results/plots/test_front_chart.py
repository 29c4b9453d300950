"""Pictures show every series at its values, and their files are complete and reproducible."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from nas.results.analysis.convergence import convergence
from nas.results.analysis.network_selection import Limit, parse_limits, within
from nas.results.analysis.report import RunReport, build_report
from nas.results.plots import charts, colours, front_chart
from nas.results.plots.charts import Series
from nas.results.plots.front_chart import Networks, front_of_pair, heading, is_joined, pairs
from nas.results.plots.matplotlib_charts import figure_of
from nas.results.plots.plot_files import write_plots
from nas.results.plots.search_charts import convergence_chart
from nas.search.problem.variants import Variants
from tests.errors import raises
from tests.nas.results.export.runs import BOARD, FOUR, PROFILE, TWO, example_run, trained_further

LATENCY = f"latency_ms@{PROFILE}"
FILES = ["front.png", "front.svg", "convergence.png", "convergence.svg", "front.html"]


@pytest.fixture(scope="module")
def report() -> RunReport:
    return build_report(example_run(), run="example-1")


def front_figure(report: RunReport, *arguments: Any) -> Figure:
    chart = front_chart.front_chart(report, *arguments)
    assert chart is not None
    return figure_of(chart)


def convergence_axis(report: RunReport) -> Axes:
    chart = convergence_chart(report)
    assert chart is not None
    return figure_of(chart).axes[0]


def series(axis: Axes, label: str) -> NDArray[np.float64]:
    (line,) = [line for line in axis.get_lines() if line.get_label() == label]
    return np.asarray(line.get_xydata(), dtype=np.float64)


def test_a_finetuned_network_is_connected_to_its_values_before(report: RunReport) -> None:
    done, unfinished = trained_further(report)
    figure = front_figure(report, (), [done, unfinished])
    drawn = [found for found in figure.axes[0].get_lines() if found.get_label() == front_chart.FINETUNED_NAME]
    line, ring = (np.asarray(found.get_xydata()) for found in drawn)  # nothing of the unfinished one
    assert done.before is not None
    assert done.after is not None
    expected = [[p.values[LATENCY], 100 * p.values["accuracy"]] for p in (done.before, done.after)]
    assert line == pytest.approx(np.array(expected))
    assert ring == pytest.approx(np.array(expected[1:]))
    assert front_chart.FINETUNED_NAME in [text.get_text() for text in figure.legends[0].get_texts()]
    assert front_chart.FINETUNED_NAME not in legend_of(report)


def drawn(report: RunReport, *, limits: Sequence[Limit] = ()) -> list[Axes]:
    """The axes of the front's figure that are shown."""
    return [axis for axis in front_figure(report, limits).axes if axis.get_visible()]


def legend_of(report: RunReport) -> list[str]:
    return [text.get_text() for text in front_figure(report).legends[0].get_texts()]


def bars_of(axis: Axes) -> NDArray[np.float64]:
    """The chart's error bars, all horizontal ones and then all vertical ones, (bars, two ends, x and y)."""
    (line,) = [line for line in axis.get_lines() if np.isnan(line.get_xydata()).any()]
    triples = np.asarray(line.get_xydata(), dtype=np.float64).reshape(-1, 3, 2)
    assert np.isnan(triples[:, 2]).any(axis=1).all()  # a gap after each
    return triples[:, :2]


def test_the_front_chart_shows_each_kind_of_point_in_its_place(report: RunReport) -> None:
    (axis,) = drawn(report)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("Latency (ms), cpu-1-thread", "Accuracy (%)")
    assert axis.get_xscale() == "log"  # the smallest and the largest are more than eight times apart
    assert axis.get_yscale() == "linear"
    front = series(axis, "front, measured (± error)")
    expected = [[p.values[LATENCY], 100 * p.values["accuracy"]] for p in report.front]
    np.testing.assert_allclose(front, expected, rtol=1e-12)
    small = report.anchors["smallest"]
    np.testing.assert_allclose(
        series(axis, "smallest network"), [[small.values[LATENCY], 100 * small.values["accuracy"]]], rtol=1e-12
    )
    off_front = {p.architecture for p in report.evaluated} - {p.architecture for p in report.front}
    assert len(series(axis, "measured")) == len(off_front)


def test_precisions_are_told_apart_and_each_has_its_front() -> None:
    found = build_report(example_run(variants=Variants(("fp32", "int8"))), run="example-1")
    (axis,) = drawn(found)
    counts = {}
    for precision, marker in (("fp32", "o"), ("int8", "s")):
        names = [f"front, measured (± error), {precision}", f"measured, {precision}"]
        lines = [line for line in axis.get_lines() if line.get_label() in names and line.get_marker()]
        assert {line.get_marker() for line in lines} == {marker}
        counts[precision] = sum(len(np.asarray(line.get_xdata())) for line in lines)
    muted = {p.architecture for p in [*found.front, *Networks.from_report(found, found.evaluated).within]}
    assert sum(counts.values()) == len(muted)
    assert counts == {name: sum(a.genes[-1] == gene for a in muted) for gene, name in enumerate(("int8", "fp32"))}
    for precision in counts:
        line = series(axis, f"front of {precision} alone, while searching")
        points = [p for p in found.evaluated if [p.values[LATENCY], 100 * p.values["accuracy"]] in line.tolist()]
        assert len(points) >= len(line)
        rivals = [p for p in found.evaluated if p.precision == precision]
        for point in points:
            better = [
                r
                for r in rivals
                if r.values[LATENCY] <= point.values[LATENCY]
                and r.values["accuracy"] >= point.values["accuracy"]
                and r.values != point.values
            ]
            assert not better
    assert not [name for name in legend_of(build_report(example_run(), run="x")) if "alone" in name]


@pytest.mark.parametrize("opacity", [0.75, 1.0])
def test_hollow_symbols_have_an_edge(opacity: float) -> None:
    nothing, look = np.array([]), charts.Look(colours.PREDICTED, "circle", hollow=True, opacity=opacity)
    panel = charts.Panel(charts.Axis(), charts.Axis(), [charts.Series("", nothing, nothing, look)])
    (axis,) = figure_of(charts.Chart("", "", [panel], (1.0, 1.0))).axes
    (line,) = axis.get_lines()
    assert line.get_markerfacecolor() == "none"
    assert line.get_markeredgewidth() > 0.5


def test_predictions_are_hollow_dashed_and_named(report: RunReport) -> None:
    (axis,) = drawn(report)
    lines = [line for line in axis.get_lines() if line.get_markerfacecolor() == "none"]
    assert [len(np.asarray(lines[0].get_xdata())), lines[0].get_marker()] == [len(report.predicted), "D"]
    assert lines[1].get_label() == "predicted, not measured"
    assert lines[1].is_dashed()
    names = legend_of(report)
    assert names[0].startswith("front, measured")
    assert "predicted, not measured" in names
    assert "predicted, not measured" not in legend_of(replace(report, predicted=()))


def test_error_bars_span_the_errors(report: RunReport) -> None:
    (axis,) = drawn(report)
    assert [line.get_alpha() for line in axis.get_lines() if np.isnan(line.get_xydata()).any()] == [0.4]
    horizontal, vertical = np.split(bars_of(axis), 2)
    middles = [[p.values[LATENCY], 100 * p.values["accuracy"]] for p in report.front]
    errors = [[p.errors[LATENCY], 100 * p.errors["accuracy"]] for p in report.front]
    for bars, side in ((horizontal, [1.0, 0.0]), (vertical, [0.0, 1.0])):
        np.testing.assert_allclose(bars.mean(axis=1), middles, rtol=1e-9)
        np.testing.assert_allclose(np.diff(bars, axis=1)[:, 0] / 2, np.multiply(errors, side), rtol=1e-9)


@pytest.mark.parametrize("cost", [LATENCY, f"throughput@{PROFILE}"])
def test_each_place_on_the_line_of_a_front_is_reached_by_a_network(cost: str) -> None:
    found = build_report(example_run(("accuracy", cost)), run="example-1")
    (axis,) = drawn(found)
    lines = {line.get_label(): line for line in axis.get_lines() if line.get_drawstyle() != "default"}
    assert set(lines) == {front_chart.FRONT_NAME, front_chart.PREDICTED_NAME}
    sign = found.objectives[1].sign
    for line in lines.values():
        x, y = np.asarray(line.get_data(), dtype=np.float64)
        corners = np.array(STEP_LOOKUP_MAP[line.get_drawstyle()](x, y))
        between = np.linspace(corners[:, :-1], corners[:, 1:], 5, axis=2).reshape(2, -1)
        for place, accuracy in between.T:
            assert ((sign * x <= sign * place) & (y >= accuracy)).any(), "no network is as cheap and as accurate"


def test_limits_are_dashed_lines_with_their_bounds(report: RunReport) -> None:
    (axis,) = drawn(report, limits=parse_limits(report, "latency_ms<=1.0, accuracy>=0.8"))
    assert {text.get_text() for text in axis.texts} == {"≤ 1 ms", "≥ 80 %"}
    ends = [np.asarray(line.get_xydata()).tolist() for line in axis.get_lines() if line.is_dashed()]
    assert [[1.0, 0.0], [1.0, 1.0]] in ends
    assert [[0.0, 80.0], [1.0, 80.0]] in ends


def test_every_pair_of_objectives_has_a_panel_with_costs_along_x() -> None:
    found = build_report(example_run(FOUR), run="x")
    shown = [(x.metric, y.metric) for x, y in pairs(found)]
    assert shown[:3] == [("latency_ms", "accuracy"), ("macs", "accuracy"), ("parameters", "accuracy")]
    assert len({frozenset(pair) for pair in shown}) == 6
    assert len(drawn(found)) == 6


def test_the_convergence_ends_at_all_of_its_volume(report: RunReport) -> None:
    axis = convergence_axis(report)
    curve = series(axis, "hypervolume")
    assert curve[:, 0].tolist() == list(range(1, 41))
    assert curve[-1, 1] == 100.0
    assert len(series(axis, "smallest and largest network")) == 2
    facts = convergence(report)
    assert facts is not None
    assert facts.close_at is not None
    assert curve[facts.close_at - 1, 1] >= 99 > curve[facts.close_at - 2, 1]


def test_a_volume_of_zero_is_not_drawn(report: RunReport) -> None:
    """As where nothing keeps the limits: there is no share of it."""
    assert convergence_chart(replace(report, hypervolume=((1, 0.0), (2, 0.0)))) is None


def test_all_files_are_written_whole(report: RunReport, tmp_path: Path) -> None:
    paths = write_plots(report, tmp_path / "plots")
    assert [path.name for path in paths] == FILES
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(FILES)
    with Image.open(paths[0]) as image:
        assert image.size == (1200, 810)
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50
    root = ElementTree.parse(paths[1]).getroot()
    assert root.tag.endswith("svg")


def test_vector_and_raster_files_are_repeatable(report: RunReport, tmp_path: Path) -> None:
    first, second = write_plots(report, tmp_path / "a"), write_plots(report, tmp_path / "b")
    for one, other in zip(first[:4], second[:4], strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert not re.search(r"<dc:date>", first[1].read_text())


def test_many_points_off_the_front_are_one_image_of_the_drawing(
    report: RunReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "<image" not in write_plots(report, tmp_path)[1].read_text()
    monkeypatch.setattr(charts, "MANY_POINTS", 5)
    assert "<image" in write_plots(report, tmp_path)[1].read_text()


def test_names_are_drawn_as_they_are(report: RunReport, tmp_path: Path) -> None:
    odd = replace(report, name=r"$\frac$ & <b>", run="odd")
    paths = write_plots(odd, tmp_path)
    assert len(paths) == 5


def test_without_a_reference_there_is_no_convergence(report: RunReport, tmp_path: Path) -> None:
    early = replace(report, hypervolume=(), reference={})
    assert [p.name for p in write_plots(early, tmp_path)] == ["front.png", "front.svg", "front.html"]


def test_a_run_without_measurements_is_rejected(report: RunReport, tmp_path: Path) -> None:
    with raises("run.nothing-measured", "example-1"):
        write_plots(replace(report, evaluated=report.evaluated[:0], front=()), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_made_is_named(report: RunReport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises("file.not-a-folder", str(tmp_path / "file" / "plots")):
        write_plots(report, tmp_path / "file" / "plots")


def test_each_profile_has_a_panel_with_its_own_front() -> None:
    board = f"latency_ms@{BOARD}"
    found = build_report(example_run((*TWO, board)), run="x")
    shown = pairs(found)
    assert [(x.name, y.name) for x, y in shown] == [(LATENCY, "accuracy"), (board, "accuracy"), (LATENCY, board)]
    axes = drawn(found)
    for profile, pair, axis in zip((PROFILE, BOARD), shown, axes, strict=False):
        own = found.fronts[profile]
        expected = [[p.values[pair[0].name], 100 * p.values["accuracy"]] for p in own]
        np.testing.assert_allclose(series(axis, front_chart.PROFILE_FRONT_NAME), expected, rtol=1e-12)
        assert len(series(axis, front_chart.JOINT_NAME)) == len(found.front) - len(own) > 0
        assert front_of_pair(found, pair)[0] == own
        assert is_joined(found, pair)
    assert not is_joined(found, shown[2])
    assert len(series(axes[2], front_chart.JOINT_NAME)) == len(found.front)
    names = legend_of(found)
    assert {front_chart.PROFILE_FRONT_NAME, front_chart.JOINT_NAME} <= set(names)
    assert front_chart.FRONT_NAME not in names  # of two fronts, each says which one it is
    assert len(names) == len(set(names))
    chart = front_chart.front_chart(found)
    assert chart is not None
    looks = {
        (mark.look.colour, mark.look.symbol, mark.look.hollow)
        for mark in chart.legend.values()
        if isinstance(mark, Series)
    }
    assert len(looks) == len(names)


def test_a_legend_with_long_names_is_within_the_picture() -> None:
    chart = front_chart.front_chart(build_report(example_run(FOUR), run="x"))
    assert chart is not None
    renamed = [
        replace(
            panel,
            marks=[replace(mark, name=f"{mark.name}, of two profiles and in two precisions") for mark in panel.series],
        )
        for panel in chart.panels
    ]
    figure = figure_of(replace(chart, panels=renamed))
    FigureCanvasAgg(figure).draw()
    [legend] = figure.legends
    assert legend.get_window_extent().x0 >= 0
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_what_breaks_a_limit_is_crossed_out(tmp_path: Path) -> None:
    found = build_report(example_run(limits={"latency_ms": (None, 0.5), "macs": (None, 1e7)}), run="x")
    shown = pairs(found)
    assert [(x.metric, y.metric) for x, y in shown] == [("latency_ms", "accuracy"), ("macs", "accuracy")]
    broken = [p for p in found.evaluated if p.values[LATENCY] > 0.5 or p.values["macs"] > 1e7]
    elsewhere = {p.architecture for p in [*found.front, *found.anchors.values()]}  # on the front: by final values
    for axis in drawn(found):
        assert len(series(axis, front_chart.BREAKING_NAME)) == len(
            [p for p in broken if p.architecture not in elsewhere]
        )
    assert is_joined(found, shown[0])
    assert not is_joined(found, shown[1])
    assert front_chart.NEAREST_NAME not in legend_of(found)
    text = write_plots(within(found, parse_limits(found, "latency_ms<=0.6")), tmp_path)[-1].read_text()
    assert "Limits: latency_ms@cpu-1-thread at most 0.6 ms." in text


def test_the_nearest_is_a_star_where_nothing_keeps_the_limits(tmp_path: Path) -> None:
    found = build_report(example_run(limits={"latency_ms": (None, 0.001)}), run="x")
    (axis,) = drawn(found)
    fastest = min(found.candidates, key=lambda p: p.values[LATENCY])
    assert series(axis, front_chart.NEAREST_NAME)[0, 0] == fastest.values[LATENCY]
    assert "none satisfies the limits" in heading(found)[1]
    text = write_plots(found, tmp_path)[-1].read_text()
    assert "latency_ms@cpu-1-thread 0.07779 ms (at most 0.001 ms" in text
    assert "<td>nearest</td>" in text


def test_a_run_is_titled_with_the_profiles_that_it_was_timed_on() -> None:
    assert PROFILE in heading(build_report(example_run(), run="x"))[1]
    assert PROFILE not in heading(build_report(example_run(("accuracy", "macs")), run="x"))[1]
    limited = example_run(("accuracy", "macs"), limits={"latency_ms": (None, 1.0)})
    assert PROFILE in heading(build_report(limited, run="x"))[1]


def test_one_objective_shows_its_best_so_far(tmp_path: Path) -> None:
    alone = build_report(example_run(("accuracy",)), run="x")
    paths = write_plots(alone, tmp_path / "alone")
    assert [p.name for p in paths] == ["convergence.png", "convergence.svg", "front.html"]
    assert 'id="front"' not in paths[-1].read_text()
    axis = convergence_axis(alone)
    assert axis.get_ylabel() == "Accuracy (%), best so far"
    accuracies = [100 * p.values["accuracy"] for p in alone.evaluated]
    np.testing.assert_allclose(series(axis, "best so far")[:, 1], np.maximum.accumulate(accuracies), rtol=1e-12)
    limited = build_report(example_run(("accuracy",), limits={"latency_ms": (None, 0.5)}), run="x")
    assert [(x.name, y.name) for x, y in pairs(limited)] == [(LATENCY, "accuracy")]
    assert [p.name for p in write_plots(limited, tmp_path / "limited")] == FILES
    curve = convergence(limited)
    assert curve is not None
    kept = [p.values["accuracy"] for p in limited.evaluated if p.values[LATENCY] <= 0.5]
    assert curve.values[-1] == pytest.approx(100 * max(kept))
    impossible = build_report(example_run(("accuracy",), limits={"latency_ms": (None, 0.001)}), run="x")
    assert convergence(impossible) is None


def test_more_than_four_objectives_are_drawn_against_quality_alone() -> None:
    found = build_report(example_run((*FOUR, "activation_bytes", f"latency_ms@{BOARD}")), run="x")
    assert [y.metric for _, y in pairs(found)] == ["accuracy"] * 5
