"""The measurement of a deployment from the rounds of a session."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hardware_profiles.base import Deployment, Graph, HardwareProfile, LatencyMeasurement
from hardware_profiles.measuring.pace import Speed
from hardware_profiles.measuring.protocol import Rounds
from hardware_profiles.measuring.results import results
from hardware_profiles.measuring.session import Session, Timed

PROFILE = HardwareProfile("p")


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
    session: Session, deployment: Deployment | None = None, *, usual: Speed | None = None
) -> LatencyMeasurement:
    wanted = [deployment or Deployment.single(b"", {})]
    (found,) = results(wanted, session, PROFILE, {"cpu": "A"}, seconds=1.0, usual=usual)
    assert isinstance(found, LatencyMeasurement)
    return found


def sentinels(level: Sequence[float]) -> tuple[Timed, Timed, Timed, Timed]:
    small, call = timed([0.1] * len(level)), timed([0.01] * len(level))
    return timed(level), timed(level), small, call


def test_a_quantile_of_the_rounds_counts_and_all_are_kept_as_samples() -> None:
    found = measured(Session((timed([2.0, 9.0, 2.001, 2.002, 9.0, 2.003]),), sentinels([1.0] * 6), {"steal": 0.1}))
    assert found.latency_ms == pytest.approx(2.002)  # rank 2 of 0 to 5
    assert found.samples == found.raw_ms.size == 6 * 20
    assert found.round_lengths == (20,) * 6
    assert found.p50_ms == pytest.approx(1.1 * 2.002)  # the 60th of 120 runs
    assert found.p90_ms == pytest.approx(1.1 * 9.0)
    assert found.p99_ms is None
    assert found.environment["steal"] == 0.1


def test_slow_rounds_and_drift_are_those_of_the_sentinels() -> None:
    level = [1.0, 1.3, 1.0, 1.0, 1.2, 1.0]
    found = measured(Session((timed([2.0 * ms for ms in level]),), sentinels(level), {}))
    assert found.latency_ms == pytest.approx(2.0)
    assert found.environment["slow_rounds"] == [1, 4]
    assert found.drift == pytest.approx(0.15)  # thirds of the sentinel: 1.15, 1.0, 1.1


def test_the_session_says_how_fast_the_machine_was_and_usually_is() -> None:
    session, usual = Session((timed([3.0] * 6),), sentinels([1.05] * 6), {}), Speed(0.01, 0.1, 1.0)
    found = measured(session, usual=usual)
    assert found.latency_ms == pytest.approx(3.0 / 1.05)
    assert Speed.from_json(found.environment["speed"]).ms == pytest.approx((0.01, 0.1, 1.05))
    assert found.environment["usual"] == usual.to_json()
    assert found.environment["sentinel_ms"] == pytest.approx(1.0)  # estimated as any entry
    assert found.environment["level_ms"] == pytest.approx(1.05)
    assert found.environment["slow_rounds"] == []  # not yet slow


def test_equal_sentinels_that_differ_are_an_error() -> None:
    one, _, *others = sentinels([1.0] * 6)
    found = measured(Session((timed([2.0] * 6),), (one, timed([1.1] * 6), *others), {}))
    assert found.resolution == found.environment["noise"] == pytest.approx(0.1 / 1.05)


def test_wild_rounds_give_a_value_with_a_wide_error() -> None:
    found = measured(Session((timed([2.0, 5.0, 3.0, 4.0]),), sentinels([1.0] * 4), {}))
    # rank 1.2 of 0 to 3; 1.645 sqrt(0.4 0.6 4) = 1.612 ranks around it reach from 0 to 2.812
    assert (found.latency_ms, found.noisy) == (pytest.approx(3.0 * (4 / 3) ** 0.2), True)
    high = 4 * (5 / 4) ** 0.812
    assert found.resolution == pytest.approx(math.hypot(math.log(high / 2) / 2, 0.014), rel=1e-3)


def test_a_large_model_in_scattered_memory_has_a_wide_error() -> None:
    found = measured(Session((replace(timed([2.0] * 6), scattered=0.5),), sentinels([1.0] * 6), {}))
    assert found.noisy
    assert found.resolution == pytest.approx(math.hypot(0.2, 0.014), rel=1e-3)
    assert found.environment["graphs"][0]["scattered"] == 0.5


def test_graphs_add_up_and_the_sentinels_differences_are_the_errors() -> None:
    equal = (timed([1.0] * 6, session_ms=2.0, peak_mib=3.0), timed([1.0] * 6, session_ms=2.2, peak_mib=3.0))
    own = (*equal, timed([0.1] * 6), timed([0.01] * 6))
    graphs = (
        timed([2.0] * 6, n=120, session_ms=5.0, peak_mib=10.0),
        timed([1.0] * 6, n=20, session_ms=1.0, peak_mib=2.0),
    )
    both = Deployment((Graph(b"", ({},), "encoder"), Graph(b"", ({},), "decoder", calls=3)))
    found = measured(Session(graphs, own, {}), both)
    assert found.latency_ms == pytest.approx(5.0)
    assert (found.session_ms, found.peak_mib) == (6.0, 12.0)
    assert found.session_error_ms == pytest.approx(0.9)
    assert found.peak_error_mib == 1 / 8  # equal sentinels do not make a larger model certain
    assert found.p90_ms == pytest.approx(1.1 * 5)
    assert found.p99_ms is None  # the decoder has too few runs
    alone = measured(Session(graphs[:1], own, {}))
    assert alone.p99_ms == pytest.approx(2.2)
    assert alone.environment["graphs"][0]["providers"] == ["CPUExecutionProvider"]


def test_cpu_time_replaces_latency_only_on_a_cpu() -> None:
    """The calling thread computes for half a millisecond of two; the clock may have lost 0.02."""
    graph = timed([2.0] * 6)
    graph = replace(graph, rounds=replace(graph.rounds, cpu_ms=tuple(wall / 4 for wall in graph.rounds.wall_ms)))
    session = Session((graph,), sentinels([1.0] * 6), {})
    for provider, latency_ms, clock in (
        ("CPUExecutionProvider", 0.52, "thread-cpu"),
        ("CUDAExecutionProvider", 2.0, "wall"),
    ):
        profile = replace(PROFILE, provider=provider)
        (found,) = results([Deployment.single(b"", {})], session, profile, {}, seconds=1.0)
        assert isinstance(found, LatencyMeasurement)
        assert (found.latency_ms, found.environment["graphs"][0]["clock"]) == (pytest.approx(latency_ms), clock)


def test_a_governor_that_changed_since_the_workers_start_is_the_sessions() -> None:
    session = Session((timed([2.0] * 6),), sentinels([1.0] * 6), {"governor": "powersave"})
    start = {"governor": "performance", "cpu": "A"}
    (found,) = results([Deployment.single(b"", {})], session, PROFILE, start, seconds=1.0)
    assert isinstance(found, LatencyMeasurement)
    assert (found.environment["governor"], found.environment["cpu"]) == ("powersave", "A")


def test_waiting_for_the_lock_is_not_counted() -> None:
    session = Session((timed([1.0] * 6),) * 2, sentinels([1.0] * 6), {}, waited_s=7.0)
    found = results([Deployment.single(b"", {})] * 2, session, PROFILE, {}, seconds=9.0)
    assert [result.seconds for result in found if isinstance(result, LatencyMeasurement)] == [1.0, 1.0]


def test_the_time_to_load_is_the_fastest_creation_with_the_gap_to_the_next_as_error() -> None:
    quick = replace(timed([2.0] * 6), session_ms=(9.0, 4.0, 4.1))
    found = measured(Session((quick,), sentinels([1.0] * 6), {}))
    assert (found.session_ms, found.session_error_ms) == (4.0, pytest.approx(0.6))  # 15 % at least
    unsettled = replace(quick, session_ms=(9.0, 4.0, 5.0))
    assert measured(Session((unsettled,), sentinels([1.0] * 6), {})).session_error_ms == pytest.approx(1.0)
