"""The protocol's arithmetic, against values computed by hand and simulated load."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_profiles.measuring import protocol
from hardware_profiles.measuring.pace import Pace, Speed
from hardware_profiles.measuring.protocol import (
    Clock,
    Rounds,
    drift,
    estimate,
    runs_per_round,
    settled,
    taken_share,
)

ONE, TWO, DEVICE = Clock(), Clock(threads=2), Clock(on_cpu=False)
USUAL = Speed(0.01, 0.1, 1.0)
STEADY = np.zeros((3, 40))
QUIET = Pace(STEADY, USUAL)


@pytest.fixture(autouse=True, scope="module")
def short_rounds() -> None:
    """Replaces the fixture that shortens the rounds of other tests: here their length is under test."""


def rounds(wall: list[list[float]], cpu: list[list[float]] | None = None, switches: float = 0) -> Rounds:
    walls = tuple(np.array(w) for w in wall)
    return Rounds(walls, tuple(np.array(c) for c in cpu or wall), tuple(np.full(len(w), switches) for w in wall))


def test_an_interrupted_run_counts_with_what_its_clock_may_have_lost() -> None:
    times = rounds([[0.1, 0.5, 0.1], [0.3, 0.012], [5.0, 9.0]], [[0.1, 0.05, 0.101], [0.0, 0.0], [3.0, 3.5]])
    assert ONE.floors(times) == pytest.approx([0.07, 0.012, 3.02])


@pytest.mark.parametrize(
    ("floor_ms", "n"), [(0.5, 8), (0.6, 7), (1.0, 4), (3.0, 3), (1000.0, 3), (1e-6, 500), (0.0, 500)]
)
def test_an_entry_runs_for_4_ms_or_3_times_per_round(floor_ms: float, n: int) -> None:
    assert runs_per_round(floor_ms) == n


@pytest.mark.parametrize(("floor_ms", "n"), [(0.05, 80), (1.0, 40), (1.5, 40), (1.6, 3), (100.0, 3), (0.0, 500)])
def test_a_longer_measurement_of_a_fast_entry_has_a_p99(floor_ms: float, n: int) -> None:
    assert runs_per_round(floor_ms, longer=True) == n
    assert (n * protocol.LEAST_LONGER_ROUNDS >= 662) == (floor_ms <= 1.5)


def test_one_thread_uses_its_cpu_time() -> None:
    found = estimate(rounds([[22, 23, 8.3], [22, 25, 24]], [[8.3, 8.2, 8.3], [8.2, 8.4, 8.3]]), ONE, QUIET)
    assert found.floor_ms == pytest.approx(8.22)  # in both rounds
    assert found.preempted_share == pytest.approx(5 / 6)
    assert found.p50_ms == 22.5


def test_several_threads_use_a_low_quantile_of_the_rounds_10th_percentiles_of_the_wall_clock() -> None:
    times = rounds([list(range(2, 13)), list(range(1, 12)), list(range(3, 14))], [[0.1] * 11] * 3)
    assert TWO.floors(times).tolist() == [3, 2, 4]
    assert estimate(times, TWO, QUIET).floor_ms == pytest.approx(
        2 * 1.5**0.8
    )  # rank 0.8 of 0 to 2, on a scale of ratios


def test_where_many_runs_were_interrupted_nearly_the_fastest_round_is_the_latency() -> None:
    fast = rounds([[3.0] * 10, [2.0] * 10, [4.0] * 10], switches=1)
    assert estimate(fast, ONE, QUIET).floor_ms == pytest.approx(2 * 1.5**0.1)  # 0.05 of the way


def test_a_speed_that_few_rounds_have_is_not_the_latency() -> None:
    """On a shared core some rounds are a quarter faster; whether an entry has one of them is chance."""
    lucky, others = rounds([*[[0.75]] * 6, *[[1.0]] * 14]), rounds([[1.0]] * 20)
    assert estimate(lucky, ONE, QUIET).floor_ms == estimate(others, ONE, QUIET).floor_ms == 1.0
    often = rounds([*[[0.75]] * 10, *[[1.0]] * 10])
    assert estimate(often, ONE, QUIET).floor_ms == 0.75


def test_what_a_round_took_longer_than_usual_is_divided_out() -> None:
    """Slow rounds cost small networks a half, large ones a tenth and calls nothing."""
    slow = np.array([0.0, 1.0] * 10)
    pace = Pace(slow * np.log([[1.0], [1.5], [1.1]]), USUAL)
    call, small, large, between, tiny = (
        rounds([[ms * (1 + more * s)] for s in slow])
        for ms, more in ((0.005, 0.0), (0.1, 0.5), (4.0, 0.1), (0.3, 0.29), (0.03, 0.22))
    )
    assert estimate(call, ONE, pace).floor_ms == pytest.approx(0.005)
    assert estimate(small, ONE, pace).floor_ms == pytest.approx(0.1)
    assert estimate(tiny, ONE, pace).floor_ms == pytest.approx(0.03, rel=0.02)
    assert estimate(large, ONE, pace).floor_ms == pytest.approx(4.0)
    assert estimate(between, ONE, pace).floor_ms == pytest.approx(0.3, rel=0.02)
    assert settled(small, ONE, pace)
    assert not settled(small, ONE, QUIET)
    assert estimate(small, TWO, pace).floor_ms > 0.1  # what interrupts a sentinel need not interrupt an entry


def test_a_session_that_was_slower_throughout_has_a_value_at_the_usual_speed_and_a_wider_error() -> None:
    slower = Pace(np.log([[1.0], [1.2], [1.1]]) * np.ones(5), USUAL)
    found = estimate(rounds([[2.2]] * 5), ONE, slower)
    assert found.floor_ms == pytest.approx(2.0)
    assert found.error == pytest.approx(np.hypot(0.014, 0.4 * 0.1))
    wall = estimate(rounds([[2.2]] * 5), TWO, slower)
    assert (wall.floor_ms, wall.error) == (pytest.approx(2.2), pytest.approx(np.hypot(0.014, 0.1)))


def test_the_wall_clock_of_one_thread_without_cpu_time_is_given_at_the_usual_speed() -> None:
    """As in a browser: the pace is divided out, and interrupted runs are an error, since no CPU time replaces them."""
    page, slower = Clock(has_cpu_time=False), Pace(np.log([[1.0], [1.2], [1.1]]) * np.ones(5), USUAL)
    calm = estimate(rounds([[2.2]] * 5), page, slower)
    assert (page.name, calm.floor_ms) == ("wall", pytest.approx(2.0))
    assert calm.error == pytest.approx(np.hypot(0.014, 0.4 * 0.1))
    half = estimate(rounds([[2.2, 4.4]] * 5, switches=1), page, slower)
    assert (half.floor_ms, half.preempted_share) == (pytest.approx(2.0), 0.5)
    assert half.error == pytest.approx(np.hypot(calm.error, 0.8 * 0.5**2))


def test_the_more_runs_are_interrupted_the_nearer_is_the_latency_to_the_fastest_round() -> None:
    ragged = [[1.0 + i / 100] * 4 for i in range(11)]

    def found(n_interrupted: int) -> float:
        switches = tuple(np.array([1.0] * n_interrupted + [0.0] * (4 - n_interrupted)) for _ in ragged)
        times = rounds(ragged)
        return estimate(Rounds(times.wall_ms, times.cpu_ms, switches), ONE, QUIET).floor_ms

    assert found(0) == found(2) == pytest.approx(1.04)
    assert found(3) == pytest.approx(1.01, abs=1e-4)
    assert found(4) == pytest.approx(1.005, abs=1e-4)


def test_waiting_for_a_device_is_not_preemption_and_uses_the_wall_clock() -> None:
    waiting = rounds([[5.0, 5.1], [5.2, 5.0]], [[0.1, 0.1], [0.1, 0.1]])
    found = estimate(waiting, DEVICE, QUIET)
    assert (found.floor_ms, found.preempted_share) == (pytest.approx(5.0), 0)


def test_waiting_for_other_threads_is_not_preemption() -> None:
    waiting = rounds([[4.0, 4.01], [4.0, 9.0]], [[2.0, 2.0], [2.0, 2.0]])
    assert TWO.lost(waiting) == 0
    switched = rounds([[4.0, 4.01], [4.0, 9.0]], [[2.0, 2.0], [2.0, 2.0]], switches=1)
    assert TWO.lost(switched) == 0.25
    assert taken_share([switched], TWO) == 0.25


def test_load_that_moves_the_median_does_not_move_the_floor() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.exponential(0.2, 40) * (rng.random(40) < 0.7) for _ in range(6)]
    found = estimate(rounds([(2.0 + n).tolist() for n in noise], [[2.0] * 40] * 6), ONE, QUIET)
    assert found.floor_ms == pytest.approx(2.0, rel=1e-3)
    assert found.p50_ms > 2.02


def test_the_error_grows_with_the_load_with_the_sentinels_spread_and_with_the_scatter_of_the_rounds() -> None:
    flat, ragged = rounds([[2.0]] * 5), rounds([[2.0], [2.1], [2.06], [3.0], [2.04]])
    assert estimate(flat, ONE, QUIET).error == pytest.approx(0.014)
    assert estimate(flat, ONE, Pace(STEADY, USUAL, other_load=0.8)).error == pytest.approx(0.014 + 0.8 * 0.045)
    spread = Pace(STEADY, USUAL, spread=0.1)
    assert estimate(flat, ONE, spread).error == pytest.approx(np.hypot(0.014, 0.02))
    assert estimate(flat, TWO, spread).error == pytest.approx(np.hypot(0.014, 0.06))
    # Of five rounds the 0.4 quantile is rank 1.6; 1.645 sqrt(0.4 0.6 5) = 1.80 ranks around it reach from 0 to 3.40.
    low, high = np.log(2.0), np.log(2.1) + 0.4 * np.log(3.0 / 2.1)
    assert estimate(ragged, ONE, QUIET).error == pytest.approx(np.hypot(0.014, (high - low) / 2), abs=1e-3)


def test_a_machine_that_was_never_measured_without_others_says_so() -> None:
    beside = Pace(STEADY, Speed(0.01, 0.1, 1.0, other_load=0.5))
    assert estimate(rounds([[2.0]] * 5), ONE, beside).error == pytest.approx(np.hypot(0.014, 0.2 * 0.5))


def test_the_load_is_the_time_that_others_got() -> None:
    assert taken_share([rounds([[4.0] * 3]), rounds([[4.0]], [[0.0]])], ONE) == pytest.approx(0.25)
    assert taken_share([rounds([[1.0]], [[1.01]])], ONE) == 0


def test_an_entry_has_settled_when_its_quantile_is_known() -> None:
    assert settled(rounds([[t] for t in (1.0, 1.01, 1.02, 1.03, 1.02, 1.01, 1.03, 1.4, 2.0, 1.01)]), ONE, QUIET)
    assert not settled(rounds([*[[1.0]] * 4, *[[1.3]] * 6]), ONE, QUIET)
    assert settled(rounds([*[[1.0]] * 4, *[[1.3]] * 36]), ONE, QUIET)


def test_threads_that_were_always_interrupted_have_an_upper_bound_with_a_wide_error() -> None:
    def found(n_slow: int) -> float:
        wall = [[4.0] * (10 - n_slow) + [9.0] * n_slow] * 4
        switches = tuple(np.array([0.0] * (10 - n_slow) + [1.0] * n_slow) for _ in range(4))
        times = Rounds(*(tuple(map(np.array, wall)),) * 2, switches)
        return estimate(times, TWO, QUIET).error

    assert found(0) == pytest.approx(0.014)
    assert found(2) == pytest.approx(np.hypot(0.014, 0.8 * 0.2**2))
    assert found(9) == pytest.approx(np.hypot(0.014, 0.8 * 0.9**2))


def test_the_resolution_is_the_largest_error() -> None:
    assert protocol.resolution(0.01, 0.002) == 0.01
    assert protocol.resolution(0.01, 0.02) == 0.02


@pytest.mark.parametrize(
    ("n", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_a_tail_needs_enough_runs(n: int, p90: bool, p99: bool) -> None:
    times = np.random.default_rng(0).gamma(4, 1, n)
    found = estimate(rounds([times[:10].tolist(), times[10:].tolist()]), ONE, QUIET)
    ordered = np.sort(times)
    assert (found.p90_ms is not None, found.p99_ms is not None) == (p90, p99)
    for percent, value in ((50, found.p50_ms), (90, found.p90_ms), (99, found.p99_ms)):
        if value is not None:  # linear between the two nearest order statistics
            at = percent / 100 * (n - 1)
            low = int(at)
            assert value == pytest.approx(ordered[low] + (at - low) * (ordered[min(low + 1, n - 1)] - ordered[low]))


def test_drift_is_the_largest_change_between_start_middle_and_end() -> None:
    level = np.array([1.0, 1.0, 1.1, 1.1, 0.9, 0.9])
    assert drift(level) == pytest.approx(1.1 / 0.9 - 1)
    assert drift(np.ones(6)) == 0
    assert drift(np.ones(1)) == 0
