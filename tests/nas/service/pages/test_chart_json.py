"""Data for the scripts agree with the report."""

from __future__ import annotations

import json

import pytest

from nas.engine.formatting import format_value, shown_scale, shown_unit, title_of
from nas.engine.store.memory import MemoryStore
from nas.results.analysis.report import RunReport, build_report
from nas.search.problem.objectives import Fidelity, Objective
from nas.service.api.schemas import CommonMember, ComparedRun, Comparison, Figure, Network
from nas.service.pages.chart_json import chart_data, comparison_data
from supernets.space import Architecture
from tests.nas.results.export.runs import BOARD, FOUR, PROFILE, SPACE, TWO, example_run, fail


def report_of(names: tuple[str, ...] = TWO, **options: int) -> RunReport:
    return build_report(example_run(names, **options), run="example-1")


@pytest.mark.parametrize("names", [TWO, FOUR, (*TWO, f"latency_ms@{BOARD}")])
def test_columns_are_the_candidates_in_the_order_told(names: tuple[str, ...]) -> None:
    report = report_of(names, n_final=20)
    data = json.loads(json.dumps(chart_data(report), allow_nan=False))
    measured = data["measured"]
    assert measured["keys"] == [p.key for p in report.candidates]
    for name in names:
        column = measured["metrics"][name]
        assert column["values"] == [p.values[name] for p in report.candidates]
        assert column["errors"] == [p.errors[name] for p in report.candidates]
    assert [measured["keys"][i] for i in data["front"]] == [p.key for p in report.front]
    for view in data["views"]:
        fronts = {one["metric"]: one["places"] for one in view["series"] if "error_x" in one["trace"]}
        for metric in view["metrics"]:
            front = report.fronts.get(metric["profile"], report.front)
            assert [measured["keys"][i] for i in fronts[metric["name"]]] == [p.key for p in front]
    assert data["predicted"]["keys"] == [p.key for p in report.predicted]
    again = [i for i, p in enumerate(report.candidates) if p.fidelity is Fidelity.FINAL]
    assert measured["final"] == again
    searched = {p.key: p for p in report.evaluated}
    latency = f"latency_ms@{PROFILE}"
    assert measured["searched"][latency] == [searched[measured["keys"][i]].values[latency] for i in again]


def test_choices_describe_a_key() -> None:
    report = report_of()
    choices = chart_data(report)["choices"]
    for point in report.candidates:
        genes = point.key.split("-")
        described = {c["name"]: c["options"][int(g)] for c, g in zip(choices, genes, strict=True) if g != "x"}
        assert described == point.described


def test_test_scores_and_anchors_are_positions() -> None:
    report = report_of()
    data = chart_data(report)
    test = data["measured"]["test"]
    for place, value in zip(test["places"], test["values"], strict=True):
        found = report.candidates[place].test
        assert found is not None
        assert found["accuracy"] == value
    [smallest] = [one for one in data["views"][0]["series"] if one["trace"]["name"] == "smallest network"]
    assert [report.candidates[i].architecture for i in smallest["places"]] == [SPACE.smallest]
    assert Architecture.parse(data["largest_key"]) == SPACE.largest


def test_curves_are_those_of_the_report() -> None:
    report = report_of()
    data = chart_data(report)
    curve = data["convergence"]["data"][0]
    assert curve["x"] == [n for n, _ in report.hypervolume]
    assert curve["y"][-1] == 100.0
    traces = {trace["name"]: trace for trace in data["predictors"]["data"]}
    assert set(traces) == {title_of(objective) for objective in report.objectives}
    for objective in report.objectives:
        trace, predictor = traces[title_of(objective)], report.predictors[objective.name]
        assert trace["x"] == [step for step, _ in predictor.history]
        assert trace["y"] == [quality["kendall_tau"] for _, quality in predictor.history]


@pytest.mark.parametrize("limits", [None, {f"latency_ms@{PROFILE}": (None, 100.0)}])
def test_axes_of_views_span_networks_and_bounds(limits: dict[str, tuple[float | None, float | None]] | None) -> None:
    report = build_report(example_run(limits=limits), run="example-1")
    layout = chart_data(report)["views"][0]["layout"]
    assert layout["xaxis"]["type"] == "log"
    low, high = (10**end for end in layout["xaxis"]["range"])
    values = [p.values[f"latency_ms@{PROFILE}"] for p in [*report.candidates, *report.predicted]]
    assert 0.5 * min(values) < low < min(values)
    highest = max([*values, *(bounds[1] for bounds in (limits or {}).values() if bounds[1])])
    assert highest < high < 2 * highest
    assert layout["yaxis"]["range"][1] > 100 * max(
        p.values["accuracy"] for p in [*report.candidates, *report.predicted]
    )


def test_compared_fronts_are_the_runs_values_with_their_common_front() -> None:
    figures = {"accuracy": Figure(value=0.8, error=0.01), "macs": Figure(value=2e6, error=0.0)}
    network = Network.model_construct(key="0-1", figures=figures)
    run = ComparedRun.model_construct(run="a-1", front=(network,), curve=((1, 0.5), (2, 0.75)))
    metrics = [Objective.parse("accuracy", []), Objective.parse("macs", [])]
    comparison = Comparison.model_construct(runs=(run,), common_front=(CommonMember(run="a-1", key="0-1"),))
    data = json.loads(json.dumps(comparison_data(comparison, metrics), allow_nan=False))
    [against_macs] = data["fronts"]
    assert against_macs["title"] == "Multiply-accumulates (M)"
    common, front = against_macs["figure"]["data"]
    assert (common["name"], common["x"], common["y"]) == ("common front", [2.0], [80.0])
    assert (front["x"], front["y"], front["error_y"]["array"]) == ([2.0], [80.0], [1.0])
    assert front["customdata"] == [
        "a-1<br>Accuracy (%): <b>80.0 ± 1.0 %</b><br>Multiply-accumulates (M): <b>2.000 M</b><br>0-1"
    ]
    assert [data["curves"]["data"][0][side] for side in ("x", "y")] == [[1.0, 2.0], [pytest.approx(100 * 2 / 3), 100.0]]


def test_a_failed_second_attempt_leaves_the_anchor_in_place() -> None:
    store = MemoryStore()
    example_run(n=12, final=False, store=store)
    report = build_report(store, run="x")
    fail(store, SPACE.smallest, report.objectives)
    data = chart_data(build_report(store, run="x"))
    [smallest] = [one for one in data["views"][0]["series"] if one["trace"]["name"] == "smallest network"]
    assert smallest["places"] == [0]


def test_metrics_have_the_unit_shown() -> None:
    report = report_of(FOUR)
    for metric, info in zip(report.columns, chart_data(report)["metrics"], strict=True):
        assert info["scale"] == shown_scale(metric)
        assert format_value(metric, 1.0).endswith(f" {shown_unit(metric)}")
        assert info["unit"] == shown_unit(metric)
