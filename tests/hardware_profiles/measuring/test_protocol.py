"""The protocol's arithmetic, against values computed by hand and simulated load."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_profiles.measuring import protocol
from hardware_profiles.measuring.protocol import (
    Rounds,
    drift,
    estimate,
    noise_floor,
    plan_rounds,
    runs_per_round,
    select_rounds,
    sentinel_levels,
)


@pytest.fixture(autouse=True, scope="module")
def any_noise() -> None:
    """Replaces the fixture that shortens the rounds of other tests: here their length is under test."""


def rounds(wall: list[list[float]], cpu: list[list[float]] | None = None, switches: float = 0) -> Rounds:
    walls = tuple(np.array(w) for w in wall)
    return Rounds(walls, tuple(np.array(c) for c in cpu or wall), tuple(np.full(len(w), switches) for w in wall))


@pytest.mark.parametrize(
    ("floor_ms", "n"), [(0.5, 30), (0.6, 25), (2.0, 8), (3.0, 5), (1000.0, 5), (1e-6, 1000), (0.0, 1000)]
)
def test_an_entry_runs_for_15_ms_or_5_times_per_round(floor_ms: float, n: int) -> None:
    assert runs_per_round(floor_ms) == n


@pytest.mark.parametrize(("floor_ms", "n"), [(0.1, 150), (1.0, 40), (1.5, 40), (1.6, 10), (100.0, 5), (0.0, 1000)])
def test_a_longer_measurement_of_a_fast_entry_has_a_p99_even_without_three_rounds(floor_ms: float, n: int) -> None:
    assert runs_per_round(floor_ms, longer=True) == n
    assert (n * 17 >= 662) == (floor_ms <= 1.5)


def test_every_entry_is_in_every_round_once_and_orders_differ() -> None:
    plan = plan_rounds([5, 6, 7, 8, 9], np.random.default_rng(3))
    assert len(plan) == 6
    assert len(plan_rounds([5], np.random.default_rng(3), longer=True)) == 20
    assert all(sorted(order) == [(0, 5), (1, 6), (2, 7), (3, 8), (4, 9)] for order in plan)
    assert len({tuple(order) for order in plan}) > 1
    assert plan == plan_rounds([5, 6, 7, 8, 9], np.random.default_rng(3))


def test_one_thread_uses_the_median_of_the_rounds_minima() -> None:
    found = estimate(rounds([[3, 2, 9], [2.5, 4, 4], [8, 7, 7]]), threads=1, on_cpu=True)
    assert found.floor_ms == 2.5
    assert found.floors_ms.tolist() == [2, 2.5, 7]
    assert found.p50_ms == 4
    assert found.clock == "wall"
    # the median absolute deviation of 2, 2.5, 7 is 0.5; 1.4826 makes it a deviation, 1.2533 / sqrt(3) a median's error
    assert found.spread == pytest.approx(1.2533 * 1.4826 * 0.5 / 3**0.5 / 2.5, rel=1e-4)


def test_several_threads_use_the_10th_percentile() -> None:
    found = estimate(rounds([list(range(1, 12)), list(range(2, 13)), list(range(3, 14))]), threads=2, on_cpu=True)
    assert found.floors_ms.tolist() == [2, 3, 4]
    assert found.floor_ms == 3


def test_with_most_runs_preempted_one_thread_uses_its_cpu_time() -> None:
    lost = rounds([[22, 23, 8.3], [22, 25, 24]], [[8.3, 8.2, 8.3], [8.2, 8.4, 8.3]])
    found = estimate(lost, threads=1, on_cpu=True)
    assert (found.floor_ms, found.clock) == (8.2, "thread-cpu")
    assert found.preempted_share == pytest.approx(5 / 6)
    assert estimate(lost, threads=2, on_cpu=True).clock == "wall"


def test_waiting_for_a_device_is_not_preemption_and_uses_the_wall_clock() -> None:
    waiting = rounds([[5.0, 5.1], [5.2, 5.0]], [[0.1, 0.1], [0.1, 0.1]])
    found = estimate(waiting, threads=1, on_cpu=False)
    assert (found.floor_ms, found.clock, found.preempted_share) == (5.0, "wall", 0)


def test_waiting_for_other_threads_is_not_preemption() -> None:
    waiting = rounds([[4.0, 4.01], [4.0, 9.0]], [[2.0, 2.0], [2.0, 2.0]])
    assert estimate(waiting, threads=2, on_cpu=True).preempted_share == 0
    switched = rounds([[4.0, 4.01], [4.0, 9.0]], [[2.0, 2.0], [2.0, 2.0]], switches=1)
    assert estimate(switched, threads=2, on_cpu=True).preempted_share == 0.25


def test_load_that_moves_the_median_does_not_move_the_floor() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.exponential(0.2, 40) * (rng.random(40) < 0.7) for _ in range(6)]
    found = estimate(rounds([(2.0 + n).tolist() for n in noise], [[2.0] * 40] * 6), threads=1, on_cpu=True)
    assert found.floor_ms == pytest.approx(2.0, rel=1e-3)
    assert found.p50_ms > 2.02


def test_the_noise_floor_is_the_offset_or_two_standard_errors_of_the_difference() -> None:
    flat = np.full(6, 1.0)
    assert noise_floor(flat, flat * 1.02) == pytest.approx(0.02 / 1.01)
    wobble = np.array([0.98, 1.02, 0.98, 1.02, 1.0, 1.0])
    assert noise_floor(flat, wobble) == pytest.approx(2 * 1.2533 * 1.4826 * 0.02 / 6**0.5, rel=1e-4)
    assert noise_floor(flat, flat) == 0.005


def test_the_noise_floor_covers_most_differences_of_equal_entries() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        a, b, c, d = rng.normal(1.0, 0.01, (4, 6))
        covered += abs(np.median(c) - np.median(d)) <= noise_floor(a, b)
    assert covered / 400 > 0.8  # with six rounds the error itself is uncertain; twenty are nearer to 95 %


def test_the_resolution_is_the_largest_error() -> None:
    assert protocol.resolution(0.01, 0.002) == 0.01
    assert protocol.resolution(0.01, 0.02) == 0.04
    assert protocol.resolution(0.01, 0.02, 0.05) == 0.05


@pytest.mark.parametrize(
    ("n", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_a_tail_needs_enough_runs(n: int, p90: bool, p99: bool) -> None:
    times = np.random.default_rng(0).gamma(4, 1, n)
    found = estimate(rounds([times[:10].tolist(), times[10:].tolist()]), threads=1, on_cpu=True)
    ordered = np.sort(times)
    assert (found.p90_ms is not None, found.p99_ms is not None) == (p90, p99)
    for percent, value in ((50, found.p50_ms), (90, found.p90_ms), (99, found.p99_ms)):
        if value is not None:  # linear between the two nearest order statistics
            at = percent / 100 * (n - 1)
            low = int(at)
            assert value == pytest.approx(ordered[low] + (at - low) * (ordered[min(low + 1, n - 1)] - ordered[low]))


def test_rounds_above_the_calm_level_are_disturbed_and_the_worst_are_discarded() -> None:
    assert select_rounds(np.array([1.0, 1.01, 1.0, 1.02, 1.0, 1.04])).discarded == ()
    assert select_rounds(np.array([1.0, 1.0, 1.06, 1.0, 1.0, 1.0])).discarded == (2,)
    found = select_rounds(np.array([1.0, 1.0, 1.2, 1.3, 1.1, 1.4]))
    assert (found.kept, found.discarded, found.disturbed) == ((0, 1, 4), (2, 3, 5), True)
    assert select_rounds(np.ones(1)).kept == (0,)


def test_a_session_above_the_level_of_calm_ones_is_disturbed() -> None:
    found = select_rounds(np.array([1.1, 1.1, 1.12, 1.1, 1.1, 1.13]), calm_ms=1.0)
    assert found.disturbed
    assert len(found.kept) == 3
    assert {2, 5} <= set(found.discarded)
    assert not select_rounds(np.full(6, 1.04), calm_ms=1.0).disturbed


def test_the_sentinels_level_is_the_mean_of_their_fastest_runs() -> None:
    assert sentinel_levels(rounds([[3, 1], [2, 2]]), rounds([[2, 4], [5, 3]])).tolist() == [1.5, 2.5]


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_discarding_does_not_make_the_noise_look_small(shift: float) -> None:
    """A third of the rounds of equal entries is disturbed, by a common `shift` or individually: the noise floor covers
    the differences in the kept rounds as often as in undisturbed rounds."""
    rng = np.random.default_rng(7)
    covered = bias = 0.0
    for _ in range(600):
        disturbed = rng.random(6) < 1 / 3
        a, b, c, d = rng.normal(1.0, 0.005, (4, 6)) + disturbed * (shift + rng.exponential(0.1, (4, 6)))
        kept = list(select_rounds((a + b) / 2).kept)
        assert len(kept) >= 3
        difference = float(np.median(c[kept]) - np.median(d[kept]))
        covered += abs(difference) <= noise_floor(a, b)
        bias += difference
    assert covered / 600 > 0.8
    assert abs(bias / 600) < 0.002


def test_drift_is_the_largest_change_between_start_middle_and_end() -> None:
    level = np.array([1.0, 1.0, 1.1, 1.1, 0.9, 0.9])
    assert drift(level) == pytest.approx(1.1 / 0.9 - 1)
    assert drift(np.ones(6)) == 0
    assert drift(np.ones(1)) == 0
