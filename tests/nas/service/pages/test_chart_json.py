"""Data for the scripts agree with the report."""

from __future__ import annotations

import json

import pytest

from nas.engine.formatting import format_value, shown_scale, shown_unit
from nas.engine.store.memory import MemoryStore
from nas.results.analysis.report import RunReport, build_report
from nas.search.problem.objectives import Fidelity
from nas.service.pages.chart_json import chart_data
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
        fronts = {one["metric"]: one["places"] for one in view["series"] if one["errors"]}
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
    [smallest] = [one for one in data["views"][0]["series"] if one["name"] == "smallest network"]
    assert [report.candidates[i].architecture for i in smallest["places"]] == [SPACE.smallest]
    assert Architecture.parse(data["largest_key"]) == SPACE.largest


def test_curves_are_those_of_the_report() -> None:
    report = report_of()
    data = chart_data(report)
    assert data["convergence"]["evaluations"] == [n for n, _ in report.hypervolume]
    assert data["convergence"]["values"][-1] == 100.0
    for name, predictor in report.predictors.items():
        assert data["predictors"][name]["steps"] == [step for step, _ in predictor.history]
        assert data["predictors"][name]["kendall_tau"] == [quality["kendall_tau"] for _, quality in predictor.history]


def test_a_failed_second_attempt_leaves_the_anchor_in_place() -> None:
    store = MemoryStore()
    example_run(n=12, final=False, store=store)
    report = build_report(store, run="x")
    fail(store, SPACE.smallest, report.objectives)
    data = chart_data(build_report(store, run="x"))
    [smallest] = [one for one in data["views"][0]["series"] if one["name"] == "smallest network"]
    assert smallest["places"] == [0]


def test_metrics_have_the_unit_shown() -> None:
    report = report_of(FOUR)
    for metric, info in zip(report.columns, chart_data(report)["metrics"], strict=True):
        assert info["scale"] == shown_scale(metric)
        assert format_value(metric, 1.0).endswith(f" {shown_unit(metric)}")
        assert info["unit"] == shown_unit(metric)
