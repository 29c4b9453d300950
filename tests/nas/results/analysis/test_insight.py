"""The insight into a search, against values with known effects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.engine.store.base import Fit, RunStatus
from nas.engine.store.memory import MemoryStore
from nas.results.analysis.diversity import diversity_of
from nas.results.analysis.importance import Importance, importance_of
from nas.results.analysis.insight import insight_json, insight_of, timeline_of
from nas.results.analysis.predictor_accuracy import PredictorAccuracy, predictor_accuracy_of
from nas.results.analysis.report import RunReport, build_report
from nas.search.problem.objectives import Measurement, Objective, Status
from nas.search.problem.variants import Variants
from supernets.space import INACTIVE, Architecture, Choice, SearchSpace
from tests.contracts.run_facts import search_facts
from tests.nas.results.export.runs import BOARD, FOUR, PROFILE, SPACE, TWO, example_run

LATENCY = f"latency_ms@{PROFILE}"
GENES = SearchSpace(
    [
        Choice("depth", (1, 2)),
        Choice("width", (8, 16, 32, 64)),
        Choice("kernel", (3, 5, 7), requires=("depth", 1)),
        Choice("idle", ("a", "b", "c")),
    ]
)


def report_of(values_of_network: Callable[[Architecture], tuple[float, float]], n: int = 48) -> RunReport:
    """A run that evaluated `n` different networks of `GENES`, with accuracy and latency as given."""
    store = MemoryStore()
    space = GENES.enumerate()
    architectures = [space[i] for i in np.random.default_rng(0).permutation(len(space))[:n]]
    store.describe(search_facts(GENES, TWO, profiles=[PROFILE]))
    for architecture in architectures:
        for name, value in zip(TWO, values_of_network(architecture), strict=True):
            objective = Objective.parse(name, [PROFILE])
            store.add(Measurement(Variants().request(architecture, objective), Status.OK, value, 0.0))
    return build_report(store, run="x")


def test_seconds_leave_out_the_time_without_a_driver() -> None:
    now = [1000.0]
    store = MemoryStore(clock=lambda: now[0])
    report = build_report(example_run(n=12), run="x")
    times = [10.0, 11.0, 12.0, 5000.5, 5001.5, 5001.0]  # the last two were committed in the other order
    points = replace(report.evaluated[:6], committed=np.array(times))
    # Two drivers between the third and the fourth were killed before they had measured anything.
    for at in (1.0, 1000.0, 4000.0, 5000.0):
        now[0] = at
        store.set_status(RunStatus.RUNNING)
    now[0] = 5002.0
    store.set_status(RunStatus.FINISHED)
    course = timeline_of(replace(report, evaluated=points, hypervolume=report.hypervolume[:6]), store.statuses())
    assert course.seconds.tolist() == [0.0, 1.0, 2.0, 2.5, 3.5, 3.5]
    assert course.evaluations.tolist() == [1, 2, 3, 4, 5, 6]


def test_each_member_of_the_front_is_found_where_it_was_told() -> None:
    report = build_report(example_run(), run="x")
    course = timeline_of(report, [])
    assert set(course.front_positions) == {point.key for point in report.front}
    for point in report.front:
        assert report.evaluated[course.front_positions[point.key]].architecture == point.architecture


def test_predictions_are_compared_where_they_came_before_the_measurement() -> None:
    store = example_run(n=32)  # steps of ten after the anchors, predicted 1 % too high, beside others never measured
    report = build_report(store, run="x")
    found = predictor_accuracy_of(report, store.fits(), store.asks())
    assert set(found) == set(TWO)
    latency = found[LATENCY]
    assert latency.step.tolist() == [1] * 10 + [2] * 10 + [3] * 10
    assert latency.predicted == pytest.approx(1.01 * latency.measured)
    assert latency.mape == pytest.approx(0.01)
    assert latency.bias == pytest.approx(0.01 * latency.measured.mean())
    assert (latency.kendall_tau, latency.coverage) == (1.0, 1.0)


def test_a_prediction_of_another_step_is_not_counted() -> None:
    store = example_run(n=12)
    asked = store.asks()[1][0]
    store.record_fit(Fit(7, "accuracy", {"quality": {}, "predictions": {asked.key: [0.1, 0.1]}}))
    report = build_report(store, run="x")
    assert 7 not in predictor_accuracy_of(report, store.fits(), store.asks())["accuracy"].step


def test_scores_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(0)
    measured = np.round(rng.random(200), 1) + 0.5  # with ties
    predicted = np.round(measured + 0.3 * rng.standard_normal(200), 1)
    found = PredictorAccuracy(np.arange(200), predicted, np.full(200, 0.3), measured)
    assert found.kendall_tau == pytest.approx(float(kendalltau(predicted, measured).statistic))
    assert found.rmse == pytest.approx(float(np.sqrt(((predicted - measured) ** 2).mean())))
    assert found.coverage == pytest.approx(float((abs(predicted - measured) <= 0.3 * 1.6449).mean()))
    constant = PredictorAccuracy(np.arange(3), np.ones(3), np.ones(3), np.zeros(3))
    assert math.isnan(constant.kendall_tau)
    assert math.isnan(constant.mape)


def test_genes_are_said_to_matter_by_the_variance_that_they_make() -> None:
    def values_of_network(architecture: Architecture) -> tuple[float, float]:
        depth, width, kernel, _ = architecture.genes
        return 0.5 + 0.03 * depth + 0.01 * width, math.exp(0.5 * width + 0.1 * max(kernel, 0))

    report = report_of(values_of_network)
    found = importance_of(report, GENES)
    accuracy, latency = found["accuracy"], found[LATENCY]
    assert not accuracy.relative
    assert latency.relative
    for importance in (accuracy, latency):
        assert importance.r2 > 0.95
        assert sum(importance.by_gene.values()) == pytest.approx(importance.r2, abs=0.1)
        assert importance.by_gene["idle"] < 0.01
    assert next(iter(latency.by_gene)) == "width"
    genes = np.array([p.architecture.genes for p in report.evaluated])
    shares = {"depth": (0.03 * genes[:, 0]).var(), "width": (0.01 * genes[:, 1]).var()}
    for gene, variance in shares.items():
        whole = np.var([p.values["accuracy"] for p in report.evaluated])
        assert accuracy.by_gene[gene] == pytest.approx(variance / whole, abs=0.1)
    effects = accuracy.effects["width"]
    assert effects[64] - effects[8] == pytest.approx(0.03, rel=0.1)
    ratio = (1 + latency.effects["width"][64]) / (1 + latency.effects["width"][8])
    assert ratio == pytest.approx(math.exp(1.5), rel=0.1)


def test_a_gene_that_decides_about_another_keeps_its_own_importance() -> None:
    found = importance_of(report_of(lambda a: (0.5 + 0.1 * (a.genes[2] != INACTIVE), 1.0)), GENES)["accuracy"]
    assert found.by_gene["depth"] == pytest.approx(1.0, abs=0.15)  # a shuffle of 48 networks
    assert found.by_gene["kernel"] < 0.01


@pytest.mark.parametrize(
    ("values_of_network", "n", "why"),
    [
        (lambda a: (float(np.random.default_rng((*a.genes[1:2], 7, *map(abs, a.genes))).random()), 1.0), 48, "better"),
        (lambda a: (0.5, 1.0), 48, "all the same"),
        (lambda a: (0.1 * a.genes[1], 1.0), 19, "too few"),
    ],
    ids=["noise", "constant", "few"],
)
def test_where_the_genes_tell_nothing_none_is_said_to_matter(
    values_of_network: Callable[[Architecture], tuple[float, float]], n: int, why: str
) -> None:
    found = importance_of(report_of(values_of_network, n), GENES)["accuracy"]
    assert why in found.refused
    assert (found.by_gene, found.effects) == ({}, {})


def of_front(keys: Sequence[str]) -> RunReport:
    report = report_of(lambda a: (0.5, 1.0))
    points = {p.key: p for p in report.evaluated}
    return replace(report, front=tuple(points[key] for key in keys))


def test_diversity_counts_the_genes_in_which_members_differ() -> None:
    found = diversity_of(of_front(["0-0-x-1", "0-3-x-1", "1-3-2-1"]), GENES)
    assert found is not None
    assert (found.min_distance, found.max_distance, found.mean, found.n_genes) == (1, 3, 2.0, 4)
    assert found.shared == {"idle": "b"}
    assert found.options["width"] == pytest.approx({8: 1 / 3, 16: 0, 32: 0, 64: 2 / 3})
    assert found.options["kernel"] == {3: 0.0, 5: 0.0, 7: 1.0}
    assert found.active["kernel"] == pytest.approx(1 / 3)
    every = np.array([a.genes for a in GENES.enumerate()])
    pairs = [(one != two).sum() for i, one in enumerate(every) for two in every[:i]]
    assert found.evaluated == pytest.approx(np.mean(pairs))


def test_a_gene_that_no_member_has_is_shared_as_such() -> None:
    found = diversity_of(of_front(["0-0-x-1", "0-3-x-1"]), GENES)
    assert found is not None
    assert found.shared == {"depth": 1, "kernel": None, "idle": "b"}
    assert diversity_of(of_front(["0-0-x-1"]), GENES) is None


@pytest.mark.parametrize("names", [TWO, FOUR], ids=["two", "four"])
def test_insight_is_plain_data_in_any_state_of_a_run(names: Sequence[str]) -> None:
    store = example_run(names)
    whole = insight_json(insight_of(build_report(store, run="x"), store))
    assert set(whole) == {"seconds", "found", "foresight", "importance", "diversity"}
    assert set(whole["importance"]) == set(names)
    empty = MemoryStore()
    empty.describe(search_facts(SPACE, names, profiles=[PROFILE]))
    none = insight_json(insight_of(build_report(empty, run="x"), empty))
    assert none["diversity"] is None
    assert none["seconds"] == []
    assert all("too few" in found["refused"] for found in none["importance"].values())


def test_the_report_of_one_profile_is_told_of_its_objectives_alone() -> None:
    store = example_run((*TWO, f"latency_ms@{BOARD}"))
    found = insight_of(build_report(store, run="x", profile=BOARD), store)
    assert set(found.predictor_accuracy) == set(found.importance) == {"accuracy", f"latency_ms@{BOARD}"}


def test_of_many_evaluations_some_are_modelled() -> None:
    report = report_of(lambda a: (0.5 + 0.01 * a.genes[1], 1.0))
    many = replace(report, evaluated=report.evaluated.take([*range(len(report.evaluated))] * 50))
    found: Importance = importance_of(many, GENES)["accuracy"]
    assert found.n == 2000
    assert next(iter(found.by_gene)) == "width"
