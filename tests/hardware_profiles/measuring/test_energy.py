"""Energy from the differences of counters: values, honest errors, and rounds that are long enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hardware_profiles.measuring.energy import TARGET_ERROR, Block, Energy, block_ms, estimate_energy, noise_of

Pairs = list[tuple[Block, Block]]
UPDATE_MS = 1.0


def pairs(
    call_mj: float, *, call_ms: float = 2.0, idle_w: float = 5.0, others_w: Sequence[float] = (0.0,) * 8, runs: int = 20
) -> Pairs:
    """Blocks of exact counters, with the power of other work in each round."""
    found = []
    for other_w in others_w:
        s = runs * call_ms / 1e3
        block = Block(1e3 * runs * call_mj + 1e6 * (idle_w + other_w) * s, s, s, runs)
        found.append((block, Block(1e6 * (idle_w + other_w) * 0.05, 0.05, 0.0, 0)))
    return found


def estimate(given: Pairs, *, update_ms: float = UPDATE_MS, calls: int = 1, on_cpu: bool = True) -> Energy:
    return estimate_energy(given, update_ms, calls=calls, on_cpu=on_cpu)


def test_the_power_of_waiting_is_subtracted_and_calls_are_counted() -> None:
    found = estimate(pairs(3.0))
    assert found.mj == pytest.approx(3.0)
    assert found.rounds == 8
    assert estimate(pairs(3.0), calls=4).mj == pytest.approx(0.75)
    assert 0.01 * 3 < found.error_mj < 0.05 * 3  # steps of 1 ms in blocks of 40


def test_steady_other_work_cancels_and_bursts_in_few_rounds_hardly_count() -> None:
    assert estimate(pairs(3.0, others_w=[20.0] * 8)).mj == pytest.approx(3.0)
    given = pairs(3.0)
    for i in (1, 4, 6):  # a burst that the waiting of the round does not see
        block, wait = given[i]
        given[i] = Block(block.uj * 3, block.s, block.cpu_s, block.runs), wait
    assert estimate(given).mj == pytest.approx(3.0)


@pytest.mark.parametrize(("idle_w", "busy_w", "update_ms"), [(5.0, 15.0, 1.0), (50.0, 8.0, 1.0), (80.0, 200.0, 5.0)])
def test_stated_intervals_hold_with_late_counters_and_noise(idle_w: float, busy_w: float, update_ms: float) -> None:
    """Counters of random phase, which show the energy up to their last change, and rounds whose power varies by 3 %."""
    rng, covered, within = np.random.default_rng(0), 0, []
    call_s, truth_mj = 0.002, busy_w * 2.0
    length_s = block_ms(update_ms, idle_w + busy_w, idle_w, 8) / 1e3
    for _ in range(400):
        given = []
        for _ in range(8):
            runs = round(length_s / call_s)
            s, watts = runs * call_s, idle_w + busy_w * rng.normal(1.0, 0.03)
            late = rng.uniform(0, update_ms / 1e3, 4)
            uj = 1e6 * (watts * s + watts * (late[0] - late[1]))
            wait = 1e6 * (idle_w * length_s + idle_w * (late[2] - late[3]))
            given.append((Block(uj, s, s, runs), Block(wait, length_s, 0.0, 0)))
        found = estimate(given, update_ms=update_ms)
        covered += abs(found.mj - truth_mj) <= found.error_mj
        within.append(found.error_mj / truth_mj)
    assert covered / 400 >= 0.9
    assert np.median(within) < 2.5 * TARGET_ERROR


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_work_that_runs_while_the_worker_waits_hides_energy_and_widens_the_error(share: float) -> None:
    """A process that uses this CPU fully while the worker waits, and keeps a share of it while the worker runs."""
    call_s, power_w = 0.002, 8.0
    s, uj = 20 * call_s, 1e6 * (5.0 + power_w) * 20 * call_s
    given = [(Block(uj, s, (1 - share) * s, 20), Block(uj, s, 0.0, 0, s))] * 8
    found = estimate(given)
    assert found.others_cpus == pytest.approx(1.0)
    assert abs(found.mj - 1e3 * power_w * (1 - share) * call_s) <= found.error_mj
    device = estimate(given, on_cpu=False)  # whose counter does not count the CPU
    assert device.others_cpus == 0.0
    assert device.error_mj < found.error_mj


def test_an_energy_within_its_error_is_positive_and_its_interval_reaches_from_nothing() -> None:
    """Algorithms and plots take logarithms."""
    for call_mj in (0.001, 0.0, -0.05):
        found = estimate(pairs(call_mj, idle_w=100.0))
        assert found.error_mj == pytest.approx(found.mj, rel=1e-3)
        assert found.mj > 0
        assert found.mj + found.error_mj > call_mj


def test_entries_run_longer_where_the_counter_is_coarse_or_waiting_takes_most_of_the_power() -> None:
    assert block_ms(1.0, 25.0, 5.0, 8) == pytest.approx(42, abs=2)
    assert block_ms(0.1, 25.0, 5.0, 8) == 40.0
    assert block_ms(1.0, 25.0, 20.0, 8) == pytest.approx(4 * block_ms(1.0, 25.0, 5.0, 8))
    assert block_ms(5.0, 25.0, 5.0, 8) == pytest.approx(5 * block_ms(1.0, 25.0, 5.0, 8))
    assert block_ms(1.0, 25.0, 24.0, 8) == 400.0
    assert block_ms(100.0, 25.0, 24.0, 8) == 2000.0
    assert block_ms(1.0, 0.0, 0.0, 8) == 40.0


def test_the_difference_of_the_sentinels_is_the_noise_of_the_session() -> None:
    assert noise_of(Energy(1.0, 0.0, 8), Energy(1.1, 0.0, 8)) == pytest.approx(0.1 / 1.05)
    assert noise_of(Energy(1.0, 0.0, 8), "the counter went away") == noise_of(None, None) == 0.0
