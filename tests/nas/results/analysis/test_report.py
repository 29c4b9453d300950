"""A report says what the stored rows say, at any moment of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from nas.engine.store.base import RunStatus
from nas.engine.store.memory import MemoryStore
from nas.errors import UnknownNameError
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport, build_report
from nas.results.analysis.report_json import search_json, show_json
from nas.search.problem.objectives import Fidelity, Objective
from supernets.space import Architecture
from tests.contracts.run_facts import training_facts
from tests.errors import raises
from tests.nas.results.export.runs import (
    BOARD,
    FOUR,
    N_IMAGES,
    PROFILE,
    SPACE,
    TWO,
    example_run,
    fail,
    figure,
    measure,
    predict,
)

LATENCY = f"latency_ms@{PROFILE}"
OBJECTIVES = [Objective.parse(o, [PROFILE]) for o in TWO]


def dominates(a: Point, b: Point, report: RunReport) -> bool:
    pairs = [(o.sign * a.values[o.name], o.sign * b.values[o.name]) for o in report.objectives]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


@pytest.fixture(scope="module")
def report() -> RunReport:
    return build_report(example_run(), run="example-1")


def test_evaluated_points_come_in_the_order_told_with_their_search_figures(report: RunReport) -> None:
    asked = [a for step in example_run().asks() for a in step]
    assert [p.architecture for p in report.evaluated] == asked
    for point in report.evaluated:
        for objective in report.objectives:
            assert (point.values[objective.name], point.errors[objective.name]) == figure(point.architecture, objective)
        assert point.described == SPACE.values(point.architecture)
        assert point.fidelity is Fidelity.SEARCH
    assert report.n_evaluations == report.budget == 40


def test_front_is_what_nothing_dominates_in_final_figures(report: RunReport) -> None:
    for point in report.front:
        latency = figure(point.architecture, OBJECTIVES[1])[0]
        assert point.values[LATENCY] == pytest.approx(0.9 * latency)
        assert point.fidelity is Fidelity.FINAL
        assert point.test is not None
        share, error = figure(point.architecture, OBJECTIVES[0])
        assert point.test == {"accuracy": share, "error": error}
    # The final latencies are all 10 % lower, so that what dominates what is as it was while searching.
    expected = {p.key for p in report.evaluated if not any(dominates(q, p, report) for q in report.evaluated)}
    assert {p.key for p in report.front} == expected
    latencies = [p.values[LATENCY] for p in report.front]
    assert latencies == sorted(latencies)


def test_only_what_was_measured_again_can_be_on_the_final_front() -> None:
    store = example_run()
    few = [SPACE.smallest, SPACE.largest]
    store.update_state(finalists=tuple(few))
    found = build_report(store, run="x")
    assert {p.architecture for p in found.front} == set(few)
    assert found.distinguishable == {"accuracy": True, LATENCY: True}


def test_a_run_that_goes_on_is_shown_with_what_it_found_since() -> None:
    """Networks measured again count with their final values; others only where no network dominates them in search values."""
    store = example_run(n_final=20)
    store.update_state(finalists=())
    found = build_report(store, run="x")
    leading = {p.architecture for p in found.evaluated if not any(dominates(q, p, found) for q in found.evaluated)}
    again = {p.architecture for p in found.evaluated[:20]}
    assert {p.architecture for p in found.front} - again
    for point in found.front:
        assert point.fidelity is (Fidelity.FINAL if point.architecture in again else Fidelity.SEARCH)
        assert point.architecture in again | leading


def test_a_run_before_its_final_measurements_shows_the_search_front() -> None:
    found = build_report(example_run(final=False), run="x")
    assert all(p.fidelity is Fidelity.SEARCH and p.test is None for p in found.front)
    assert found.front


def test_hypervolume_grows_and_its_end_is_that_of_all_evaluated(report: RunReport) -> None:
    numbers = [n for n, _ in report.hypervolume]
    volumes = [v for _, v in report.hypervolume]
    assert numbers == list(range(1, 41))
    assert volumes == sorted(volumes)
    # By hand: the union of rectangles from each point to the reference, as strips along latency.
    corner = report.reference
    points = sorted((p.values[LATENCY], p.values["accuracy"]) for p in report.evaluated)
    area, best = 0.0, corner["accuracy"]
    for latency, accuracy in points:
        if accuracy > best and latency < corner[LATENCY]:
            area += (corner[LATENCY] - latency) * (accuracy - best)
            best = accuracy
    assert volumes[-1] == pytest.approx(area, rel=1e-12)
    assert report.front_hypervolume is not None
    assert report.front_hypervolume > volumes[-1]  # final latencies are lower


def test_members_of_the_front_beyond_the_reference_point_are_stated(report: RunReport) -> None:
    assert report.outside_text == ""
    slowest, *others = sorted(report.front, key=lambda p: -p.values[LATENCY])
    corner = {**report.reference, LATENCY: max(p.values[LATENCY] for p in others) * 1.0001}
    text = replace(report, reference=corner).outside_text
    assert text == f"1 of the {len(report.front)} networks of the front lies beyond it and adds nothing"
    assert slowest.values[LATENCY] > corner[LATENCY]
    assert replace(report, reference={**corner, LATENCY: 0.0}).outside_text == "the whole front lies beyond it"
    assert replace(report, reference={}).outside_text == ""


def test_failed_candidates_count_but_are_no_points() -> None:
    store = example_run(n=12, final=False)
    failed = SPACE.canonical([1, 3, 3, 3, 1, 0])
    store.record_ask(2, [failed])
    fail(store, failed, OBJECTIVES)
    found = build_report(store, run="x")
    assert found.n_evaluations == 13
    assert len(found.evaluated) == 12
    assert found.failed == {failed.key: "the worker died"}
    assert [n for n, _ in found.hypervolume] == list(range(1, 13))


def test_half_measured_architectures_do_not_count_yet() -> None:
    store = example_run(n=12, final=False)
    half = SPACE.canonical([1, 3, 3, 3, 1, 0])
    store.record_ask(2, [half])
    measure(store, half, OBJECTIVES[:1])
    found = build_report(store, run="x")
    assert found.n_evaluations == len(found.evaluated) == 12


def test_predicted_points_are_those_never_measured_that_the_last_models_predict(report: RunReport) -> None:
    measured = {p.architecture for p in report.evaluated}
    assert len(report.predicted) == 30
    for point in report.predicted:
        assert point.source == "predicted"
        assert point.architecture not in measured
        assert point.values[LATENCY] == pytest.approx(1.01 * figure(point.architecture, OBJECTIVES[1])[0])
    assert not {p.key for p in report.predicted} & {p.key for p in report.front}


def test_points_that_one_model_alone_predicts_are_left_out() -> None:
    store = example_run(final=False)
    lone = SPACE.canonical([2, 3, 3, 2, 1, 2])
    predict(store, 9, [lone], OBJECTIVES[:1])
    assert build_report(store, run="x").predicted == ()
    predict(store, 9, [lone], OBJECTIVES[1:])
    assert [p.architecture for p in build_report(store, run="x").predicted] == [lone]


def test_predictors_carry_the_latest_quality_and_its_history(report: RunReport) -> None:
    latest = report.predictors[LATENCY]
    assert [step for step, _ in latest.history] == [1, 2, 3, 4]
    assert latest.latest == latest.history[-1][1] == {"mape": 0.025, "kendall_tau": 0.8}


def test_a_run_with_nothing_measured_yet_has_a_report() -> None:
    facts, store = example_run().facts(), MemoryStore()
    assert facts is not None
    store.describe(facts)
    found = build_report(store, run="x")
    assert (found.front, list(found.evaluated), found.hypervolume, found.front_hypervolume) == ((), [], (), None)
    assert show_json(found)["anchors"] == {"smallest": None, "largest": None}
    assert found.distinguishable == {}


def test_a_training_has_no_front_to_report() -> None:
    training = MemoryStore()
    training.describe(training_facts())
    with raises("run.not-a-search", "train-1"):
        build_report(training, run="train-1")


def test_a_run_that_has_not_begun_has_no_report() -> None:
    with raises("run.not-begun", "queued-1"):
        build_report(MemoryStore(), run="queued-1")


def test_json_is_plain_and_has_what_scripts_rely_on(report: RunReport) -> None:
    data = json.loads(json.dumps(show_json(report), allow_nan=False))
    assert {key: data[key] for key in search_json(report)} == json.loads(json.dumps(search_json(report)))
    assert (data["run"], data["status"], data["evaluations"]) == ("example-1", RunStatus.FINISHED.value, 40)
    member = data["front"][0]
    assert set(member) >= {"key", "architecture", "values", "errors", "source", "test"}
    assert member["source"] == "measured"
    assert Architecture.parse(member["key"]) == report.front[0].architecture
    assert data["objectives"][0] == {"name": "accuracy", "unit": "share", "goal": "maximize"}
    assert data["hypervolume"]["reference"] == dict(report.reference)
    assert data["hypervolume"]["history"][-1] == list(report.hypervolume[-1])
    assert data["distinguishable"] == {"accuracy": True, LATENCY: True}
    assert data["anchors"]["smallest"]["key"] == SPACE.smallest.key
    assert data["predictors"]["accuracy"]["quality"]["kendall_tau"] == 0.8


def test_four_objectives_make_a_front_of_all() -> None:
    found = build_report(example_run(FOUR), run="x")
    for point in found.front:
        assert set(point.values) == set(FOUR)
        assert point.errors["macs"] == 0.0
        assert not any(dominates(other, point, found) for other in found.front)


def test_accuracy_errors_are_of_the_stored_answers(report: RunReport) -> None:
    point = report.front[0]
    share = point.values["accuracy"]
    assert point.errors["accuracy"] == pytest.approx(float(np.sqrt(share * (1 - share) / N_IMAGES)))


def test_reading_a_run_loads_neither_torch_nor_a_plotting_library() -> None:
    code = (
        "import sys, nas.results.analysis.report, nas.results.analysis.network_selection, nas.results.analysis.report_json\n"
        "import nas.results.plots.search_charts, nas.results.plots.html_page\n"
        "print([m for m in ('torch', 'matplotlib', 'plotly', 'pandas', 'ray') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_only_what_keeps_the_constraints_is_on_the_front() -> None:
    limits = {"latency_ms": (None, 0.5), "accuracy": (0.8, None), "macs": (None, 1e7)}
    found = build_report(example_run(limits=limits), run="x")
    assert [o.name for o in found.columns] == [*TWO, "macs"]
    kept = [p for p in found.candidates if p.values[LATENCY] <= 0.5 and p.values["accuracy"] >= 0.8]
    kept = [p for p in kept if p.values["macs"] <= 1e7]
    assert 0 < len(kept) < len(found.candidates)
    assert {p.key for p in found.front} == {p.key for p in kept if not any(dominates(q, p, found) for q in kept)}
    assert found.nearest is None
    # the first networks break the constraints, so that they have no volume
    early = [v for n, v in found.hypervolume if n <= 2]
    assert early == [0.0, 0.0]
    free = build_report(example_run(), run="x")
    assert 0 < found.hypervolume[-1][1] < free.hypervolume[-1][1]
    data = show_json(found)
    assert data["constraints"][0] == {"figure": LATENCY, "min": None, "max": 0.5}
    assert data["nearest"] is None
    assert "macs" in data["front"][0]["values"]


def test_the_nearest_is_told_where_nothing_keeps_the_constraints() -> None:
    found = build_report(example_run(limits={"latency_ms": (None, 0.001), "accuracy": (0.5, None)}), run="x")
    assert found.front == ()
    assert found.front_hypervolume is None
    assert found.nearest is not None
    fastest = min(found.candidates, key=lambda p: p.values[LATENCY])
    assert found.nearest.point == fastest
    data = show_json(found)["nearest"]
    assert (data["key"], data["fidelity"]) == (fastest.key, "final")
    assert data["broken"] == [{"figure": LATENCY, "min": None, "max": 0.001, "value": fastest.values[LATENCY]}]
    assert data["violation"] == pytest.approx((fastest.values[LATENCY] - 0.001) / 0.001)
    json.dumps(show_json(found), allow_nan=False)


def test_each_profile_has_a_front_of_its_own() -> None:
    board = f"latency_ms@{BOARD}"
    store = example_run((*TWO, board), limits={"accuracy": (0.75, None)})
    found = build_report(store, run="x")
    assert list(found.fronts) == [PROFILE, BOARD]
    kept = [p for p in found.candidates if p.values["accuracy"] >= 0.75]
    for profile, front in found.fronts.items():
        alone = build_report(store, run="x", profile=profile)
        assert [o.name for o in alone.objectives] == ["accuracy", f"latency_ms@{profile}"]
        assert alone.front == front
        assert {p.key for p in front} == {p.key for p in kept if not any(dominates(q, p, alone) for q in kept)}
        assert list(alone.reference) == ["accuracy", f"latency_ms@{profile}"]
        assert alone.hypervolume[-1][1] == pytest.approx(
            build_report(store, run="x", profile=profile).hypervolume[-1][1]
        )
        assert alone.fronts == {}
        assert {p.key for p in front} <= {p.key for p in found.front}
    assert found.fronts[PROFILE] != found.fronts[BOARD]
    assert list(show_json(found)["fronts"]) == [PROFILE, BOARD]
    with pytest.raises(UnknownNameError, match="unknown profile 'bord'; did you mean 'board'"):
        build_report(store, run="x", profile="bord")
    assert build_report(example_run(), run="x").fronts == {}


def test_one_objective_has_the_best_feasible_network_as_its_front() -> None:
    found = build_report(example_run(("accuracy",), limits={"latency_ms": (None, 0.5)}), run="x")
    kept = [p for p in found.candidates if p.values[LATENCY] <= 0.5]
    (best,) = found.front
    assert best.values["accuracy"] == max(p.values["accuracy"] for p in kept)
    assert found.primary == found.cost == found.objectives[0]
    json.dumps(show_json(found), allow_nan=False)
