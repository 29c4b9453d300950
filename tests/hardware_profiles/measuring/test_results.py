"""The rounds that count, the measurement of a deployment, and the attempt that is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hardware_profiles.base import Deployment, Graph, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.measuring.protocol import Rounds
from hardware_profiles.measuring.results import keep_best, results
from hardware_profiles.measuring.session import Session, Timed

PROFILE = HardwareProfile("p")


@pytest.fixture(autouse=True, scope="module")
def any_noise() -> None:
    """Replaces the fixture that makes other tests accept any noise: here the limit is under test."""


def attempt(latency_ms: float, resolution: float, *, noisy: bool = True) -> LatencyMeasurement:
    none = np.empty(0)
    return LatencyMeasurement(
        latency_ms, resolution, latency_ms, None, None, 0, 1.0, 1.0, 0.0, 0.0, 0, 0.0, 0.0, noisy, "p", {}, none, none, (),
        seconds=1.0,
    )  # fmt: skip


def timed(floors: Sequence[float], *, n: int = 20, session_ms: float = 1.0, peak_mib: float = 1.0) -> Timed:
    """Rounds of `n` runs: the first takes the floor, the others 10 % more."""
    wall = tuple(np.array([floor] + [1.1 * floor] * (n - 1)) for floor in floors)
    return Timed(
        Rounds(wall, wall, tuple(np.zeros(n) for _ in floors)),
        (session_ms, 1.01 * session_ms),
        peak_mib,
        ("CPUExecutionProvider",),
    )


def measured(
    session: Session, deployment: Deployment | None = None, *, calm_ms: float = math.inf
) -> LatencyMeasurement:
    wanted = [deployment or Deployment.single(b"", {})]
    (found,) = results(wanted, session, PROFILE, {"cpu": "A"}, seconds=1.0, calm_ms=calm_ms)
    assert isinstance(found, LatencyMeasurement)
    return found


def test_rounds_with_slow_sentinels_are_discarded_and_kept_as_samples() -> None:
    level = [1.0, 1.3, 1.0, 1.0, 1.2, 1.0]
    found = measured(
        Session((timed([2.0, 9.0, 2.001, 2.002, 9.0, 2.003]),), (timed(level), timed(level)), {"steal": 0.1})
    )
    assert found.latency_ms == np.median([2.0, 2.001, 2.002, 2.003])
    assert (found.discarded_rounds, found.environment["discarded_rounds"]) == (2, [1, 4])
    assert found.samples == 4 * 20
    assert found.raw_ms.size == 6 * 20
    assert found.round_lengths == (20,) * 6
    assert found.p50_ms == pytest.approx(1.1 * 2.001)
    assert found.p90_ms == pytest.approx(1.1 * 2.003)
    assert found.p99_ms is None
    assert not found.noisy
    assert found.environment["steal"] == 0.1
    # thirds of the sentinel: 1.15, 1.0, 1.1
    assert found.drift == pytest.approx(0.15)


def test_with_most_rounds_disturbed_the_worst_half_is_discarded_and_the_result_is_noisy() -> None:
    level = [1.0, 1.3, 1.1, 1.0, 1.2, 1.4]
    found = measured(Session((timed([2.0, 3.0, 2.2, 2.0, 3.0, 3.0]),), (timed(level), timed(level)), {}))
    assert found.environment["discarded_rounds"] == [1, 4, 5]
    assert found.noisy


def test_a_session_slower_than_calm_ones_is_noisy_by_the_excess() -> None:
    sentinels = (timed([1.026] * 6), timed([1.026] * 6))
    found = measured(Session((timed([2.0] * 6),), sentinels, {}), calm_ms=1.0)
    assert found.noisy
    assert found.resolution == pytest.approx(0.026)
    assert found.discarded_rounds == 0
    assert not measured(Session((timed([2.0] * 6),), sentinels, {}), calm_ms=1.026 / 1.024).noisy


def test_graphs_add_up_and_the_sentinels_differences_are_the_errors() -> None:
    sentinels = (timed([1.0] * 6, session_ms=2.0, peak_mib=3.0), timed([1.0] * 6, session_ms=2.2, peak_mib=3.0))
    graphs = (
        timed([2.0] * 6, n=120, session_ms=5.0, peak_mib=10.0),
        timed([1.0] * 6, n=20, session_ms=1.0, peak_mib=2.0),
    )
    both = Deployment((Graph(b"", ({},), "encoder"), Graph(b"", ({},), "decoder", calls=3)))
    found = measured(Session(graphs, sentinels, {}), both)
    assert found.latency_ms == pytest.approx(5.0)
    assert (found.session_ms, found.peak_mib) == (6.0, 12.0)
    assert found.session_error_ms == pytest.approx(0.9)
    assert found.peak_error_mib == 1 / 8  # equal sentinels do not make a larger model certain
    assert found.p90_ms == pytest.approx(1.1 * 5)
    assert found.p99_ms is None  # the decoder has too few runs
    alone = measured(Session(graphs[:1], sentinels, {}))
    assert alone.p99_ms == pytest.approx(2.2)
    assert alone.environment["graphs"][0]["providers"] == ["CPUExecutionProvider"]


def test_cpu_time_replaces_latency_only_on_a_cpu() -> None:
    """The calling thread computes for half a millisecond of two."""
    graph = timed([2.0] * 6)
    graph = replace(graph, rounds=replace(graph.rounds, cpu_ms=tuple(wall / 4 for wall in graph.rounds.wall_ms)))
    session = Session((graph,), (timed([1.0] * 6),) * 2, {})
    for provider, latency_ms, clock in (
        ("CPUExecutionProvider", 0.5, "thread-cpu"),
        ("CUDAExecutionProvider", 2.0, "wall"),
    ):
        profile = replace(PROFILE, provider=provider)
        (found,) = results([Deployment.single(b"", {})], session, profile, {}, seconds=1.0)
        assert isinstance(found, LatencyMeasurement)
        assert (found.latency_ms, found.environment["graphs"][0]["clock"]) == (latency_ms, clock)


def test_a_governor_that_changed_since_the_workers_start_is_the_sessions() -> None:
    session = Session((timed([2.0] * 6),), (timed([1.0] * 6),) * 2, {"governor": "powersave"})
    start = {"governor": "performance", "cpu": "A"}
    (found,) = results([Deployment.single(b"", {})], session, PROFILE, start, seconds=1.0)
    assert isinstance(found, LatencyMeasurement)
    assert (found.environment["governor"], found.environment["cpu"]) == ("powersave", "A")


def test_waiting_for_the_lock_is_not_counted() -> None:
    session = Session((timed([1.0] * 6),) * 2, (timed([1.0] * 6),) * 2, {}, waited_s=7.0)
    found = results([Deployment.single(b"", {})] * 2, session, PROFILE, {}, seconds=9.0)
    assert [result.seconds for result in found if isinstance(result, LatencyMeasurement)] == [1.0, 1.0]


def test_a_quiet_attempt_is_kept_and_its_seconds_are_of_all() -> None:
    found = keep_best([attempt(9, 0.5), attempt(2, 0.01, noisy=False)])
    assert isinstance(found, LatencyMeasurement)
    assert (found.latency_ms, found.resolution, found.noisy, found.seconds) == (2, 0.01, False, 2.0)


def test_of_noisy_attempts_the_quietest_is_kept_and_widened_to_their_range() -> None:
    found = keep_best([attempt(2.4, 0.25), attempt(2.0, 0.1), attempt(2.1, 0.2)])
    assert isinstance(found, LatencyMeasurement)
    assert (found.latency_ms, found.noisy, found.seconds) == (2.0, True, 3.0)
    assert found.resolution == pytest.approx(0.4 / 2.0)


@pytest.mark.parametrize(
    ("attempts", "uncertainty"),
    [
        ([attempt(2, 0.3, noisy=False)], "30%"),
        ([attempt(2, 0.9), attempt(2, 0.5), attempt(2, 0.26)], "26%"),
        ([attempt(2, 0.05), attempt(2.6, 0.05)], "30%"),
    ],
)
def test_a_too_uncertain_latency_is_a_failure(attempts: list[LatencyMeasurement], uncertainty: str) -> None:
    found = keep_best(attempts)
    assert isinstance(found, LatencyFailure)
    assert f"uncertain by {uncertainty} after {len(attempts)} measurements" in found.message
    assert "at most 25%" in found.message


@pytest.mark.parametrize(("threads", "resolution", "uncertain"), [(1, 0.3, "30%"), (2, 24.0, "a factor of 25")])
def test_what_is_too_noisy_says_by_how_much_and_what_can_be_done(
    threads: int, resolution: float, uncertain: str
) -> None:
    found = keep_best([attempt(2, resolution)], threads=threads)
    assert isinstance(found, LatencyFailure)
    assert found.too_noisy
    assert f"uncertain by {uncertain} after" in found.message
    assert ("fewer threads" in found.message) == (threads > 1)


def test_a_failure_is_kept() -> None:
    assert keep_best([attempt(2, 0.3), LatencyFailure("gone")]) == LatencyFailure("gone")


def test_the_time_to_load_is_the_fastest_creation_with_the_gap_to_the_next_as_error() -> None:
    sentinels = (timed([1.0] * 6), timed([1.0] * 6))
    quick = replace(timed([2.0] * 6), session_ms=(9.0, 4.0, 4.1))
    found = measured(Session((quick,), sentinels, {}))
    assert (found.session_ms, found.session_error_ms) == (4.0, pytest.approx(0.6))  # 15 % at least
    unsettled = replace(quick, session_ms=(9.0, 4.0, 5.0))
    assert measured(Session((unsettled,), sentinels, {})).session_error_ms == pytest.approx(1.0)


def test_attempts_that_are_too_noisy_do_not_widen_the_best() -> None:
    found = keep_best([attempt(1.4, 0.4), attempt(1.35, 0.4), attempt(1.0, 0.03), attempt(1.02, 0.05)])
    assert isinstance(found, LatencyMeasurement)
    assert (found.latency_ms, found.noisy, found.seconds) == (1.0, True, 4.0)
    assert found.resolution == pytest.approx(0.03)
