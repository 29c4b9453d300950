"""Cascades on made-up answers, against counting by hand, simulation and brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from nas.engine.store.base import RunStatus
from nas.errors import Remedy
from nas.results.analysis.cascade import CascadeTable, Member, cascade_of, cascade_pairs, confidence, thresholds
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import build_report
from nas.search.problem.objectives import Objective
from nas.search.problem.tasks import SHIPPED
from nas.search.problem.variants import Variants
from supernets.space import Architecture
from tests.errors import raises
from tests.nas.results.export.runs import PROFILE, SPACE, TWO, example_run

LATENCY = Objective.parse("latency_ms", [PROFILE])
N = 2000


def member(
    index: int,
    latency: float,
    accuracy: float,
    *,
    sure_of_errors: bool = False,
    runs: NDArray[np.float64] | None = None,
) -> Member:
    """A network that is right on random examples, and less confident where it is wrong (or as confident everywhere)."""
    rng = np.random.default_rng(index)
    right = rng.random(N) < accuracy
    sure = np.where(right | sure_of_errors, rng.uniform(0.4, 1.0, N), rng.uniform(0.1, 0.6, N)).astype(np.float32)
    point = Point(Architecture((index,)), SPACE, {LATENCY.name: latency}, {LATENCY.name: 0.02 * latency})
    return Member(index, point, latency, 0.02 * latency, np.empty(0) if runs is None else runs, sure, right)


def table(*members: Member) -> CascadeTable:
    pairs = [(i, j) for i in range(len(members)) for j in range(i + 1, len(members))]
    return CascadeTable.from_pairs("made-1", members, pairs, latency=LATENCY, batch_size=1)


def test_the_confidence_is_the_largest_probability() -> None:
    logits = np.random.default_rng(0).normal(0, 30, (50, 7)).astype(np.float32)
    assert confidence(logits) == pytest.approx(softmax(logits.astype(np.float64), axis=1).max(axis=1), rel=1e-5)


def test_thresholds_pass_on_the_shares_and_lie_in_gaps() -> None:
    values = member(0, 1.0, 0.8).confidence
    found = thresholds(values)
    assert len(found) == 19
    for threshold, share in zip(found, np.arange(1, 20) / 20, strict=True):
        assert np.mean(values < threshold) == pytest.approx(share, abs=0.0101)
        assert np.abs(values - threshold).min() > 1e-5 / 2
        assert threshold == np.float32(threshold)
    crowded = np.where(np.arange(N) < 0.7 * N, np.float32(1), values)  # 70 % of the answers are sure
    assert all(np.mean(crowded < threshold) < 0.32 for threshold in thresholds(crowded))
    assert thresholds(np.ones(N, np.float32)) == []
    assert thresholds(np.ones(1, np.float32)) == []


def test_the_values_of_a_cascade_are_those_of_asking_one_example_after_another() -> None:
    small, large = member(0, 0.25, 0.8), member(1, 2.0, 0.95)
    found = cascade_of(small, large, 0.5)
    right, spent = [], []
    for i in range(N):
        passed = small.confidence[i] < 0.5
        right.append((large if passed else small).right[i])
        spent.append(0.25 + 2.0 * passed)
    assert (found.accuracy, found.mean_ms) == pytest.approx((np.mean(right), np.mean(spent)), abs=1e-12)
    assert found.worst_ms == max(spent) == 2.25
    assert found.error == pytest.approx(np.std(right) / np.sqrt(N), rel=1e-9)
    # The share's standard error, beside noise floors that add up.
    of_share = np.std(spent) / np.sqrt(N)
    assert found.mean_error_ms == pytest.approx(np.hypot(0.005 + 0.04 * found.share, of_share), rel=1e-9)
    assert cascade_of(small).mean_ms == cascade_of(small).worst_ms == 0.25


@pytest.mark.parametrize("share_below", [0.05, 0.3])
def test_the_p99_is_that_of_simulated_requests(share_below: float) -> None:
    rng = np.random.default_rng(1)
    times = [scale * (1 + rng.gamma(1.0, 0.1, 1500)) for scale in (0.25, 2.0)]
    small, large = (member(i, 0.25, 0.8, runs=own) for i, own in enumerate(times))
    small = replace(small, confidence=np.linspace(0, 1, N, dtype=np.float32))
    rows = table(small, large).cascades
    cascade = min(rows, key=lambda c: abs(c.share - share_below))
    n = 200_000
    passed = rng.random(n) < cascade.share
    simulated = rng.choice(times[0], n) + passed * rng.choice(times[1], n)
    assert cascade.p99_ms == pytest.approx(np.quantile(simulated, 0.99), rel=0.02)


def test_a_confident_small_network_wins_and_one_that_is_sure_of_its_errors_does_not() -> None:
    good = table(member(0, 0.25, 0.8), member(1, 2.0, 0.95))
    gains = [row.gain for row in good.rows if row.gain is not None]
    assert any(gain.distinguishable and gain.difference > 0 for gain in gains)
    assert all(row.against == 0 for row in good.rows if row.gain is not None and row.cascade.mean_ms < 2.0)
    blind = table(member(0, 0.25, 0.8, sure_of_errors=True), member(1, 0.3, 0.95))
    cheaper = [row for row in blind.rows if row.cascade.large is not None and row.cascade.mean_ms >= 0.3]
    assert cheaper == []  # the large network alone is as fast and better


def test_rows_are_the_common_front_with_every_single_network() -> None:
    found = table(member(0, 0.25, 0.8), member(1, 0.5, 0.85), member(2, 2.0, 0.95))
    every = [*found.cascades, *(row.cascade for row in found.rows if row.cascade.large is None)]
    assert sorted(row.cascade.small for row in found.rows if row.cascade.large is None) == [0, 1, 2]
    for row in found.rows:
        own = row.cascade
        beaten = any(
            o.mean_ms <= own.mean_ms
            and o.accuracy >= own.accuracy
            and (o.mean_ms, o.accuracy) != (own.mean_ms, own.accuracy)
            for o in every
        )
        assert row.on_front is not beaten
    front = [row.cascade for row in found.rows if row.on_front]
    assert [c.mean_ms for c in front] == sorted(c.mean_ms for c in front)
    steps = [(a, b) for a, b in pairwise(front) if b.large is not None]
    assert all(b.accuracy >= a.accuracy + 0.5 * a.error for a, b in steps)
    assert len(found.to_json()["cascades"]) == len(found.cascades) == 3 * 19
    assert [row["number"] for row in found.to_json()["rows"]] == list(range(len(found.rows)))


def test_only_a_row_of_two_networks_is_a_pair() -> None:
    found = table(member(0, 0.25, 0.8), member(1, 2.0, 0.95))
    number = next(i for i, row in enumerate(found.rows) if row.cascade.large is not None)
    small, large, threshold = found.pair(number)
    assert (small.index, large.index, threshold) == (0, 1, found.rows[number].cascade.threshold)
    with raises("cascade.single-network", "row", remedy=Remedy("export", "made-1", {"index": 0})):
        found.pair(0)
    for unknown in (-1, len(found.rows)):
        with raises("selection.unknown-network", f"row {unknown}"):
            found.pair(unknown)


def test_pairs_have_a_faster_and_a_slower_network_of_one_runtime() -> None:
    report = build_report(example_run(), run="made-1")
    n = len(report.front)
    assert len(cascade_pairs(report)) == n * (n - 1) / 2
    assert all(i < j for i, j in cascade_pairs(report))
    runtimes = Variants(runtimes=("onnxruntime", "openvino"))
    mixed = build_report(example_run(variants=runtimes), run="made-1")
    kinds = {mixed.front[i].runtime == mixed.front[j].runtime for i, j in cascade_pairs(mixed)}
    assert kinds == {True}
    fastest = {p.runtime: p for p in reversed(mixed.front)}
    with raises("cascade.too-few-networks", "one runtime"):
        cascade_pairs(replace(mixed, front=tuple(fastest.values())))


def test_runs_without_cascades_are_rejected_with_the_reason() -> None:
    report = build_report(example_run(), run="made-1")
    with raises("cascade.too-few-networks", "1 member"):
        cascade_pairs(replace(report, front=report.front[:1]))
    for task in ("regression", "language-modelling", "multi-label"):
        with raises("cascade.task-unavailable", task):
            cascade_pairs(replace(report, task=SHIPPED[task]))
    with raises("run.wrong-state", "made-1", remedy=Remedy("resume", "made-1")):
        cascade_pairs(replace(report, status=RunStatus.RUNNING))
    with raises("cascade.no-latency", "macs"):
        cascade_pairs(build_report(example_run(("accuracy", "macs")), run="made-1"))
    assert TWO[1] == report.cost.name
