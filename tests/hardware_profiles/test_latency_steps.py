"""Steps of simulated latencies are found under noise, and none where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_profiles.latency_steps import least_latency, step_ends

WIDTHS = tuple(range(6, 69))
ERROR = 0.01


def ends(latency: np.ndarray, widths: tuple[int, ...] = WIDTHS, error: float = ERROR) -> tuple[int, ...]:
    return step_ends(widths, latency.tolist(), (error * latency).tolist())


def noise(rng: np.random.Generator, n: int) -> np.ndarray:
    """Factors within the errors: an error is the largest difference of ties, two or three deviations."""
    return 1 + ERROR * rng.uniform(-0.4, 0.4, n)


@pytest.mark.parametrize("step", [8, 16])
@pytest.mark.parametrize("power", [1, 2])
def test_steps_end_at_the_multiples_of_their_step(step: int, power: int) -> None:
    w = np.array(WIDTHS)
    rounded = -(-w // step) * step / 64
    for seed in range(20):
        latency = (0.2 + rounded**power) * noise(np.random.default_rng(seed), len(w))
        assert ends(latency) == tuple(x for x in WIDTHS if x % step == 0)


def test_a_rising_step_ends_at_its_jump() -> None:
    w = np.array(WIDTHS)
    latency = 0.2 + -(-w // 16) / 4 + w / 640  # within a step a little for each channel
    for seed in range(20):
        assert ends(latency * noise(np.random.default_rng(seed), len(w))) == (16, 32, 48, 64)


@pytest.mark.parametrize("slope", [0.0, 0.0001, 0.001, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("curve", [0.0, 0.001])
def test_without_steps_every_width_is_fine(slope: float, curve: float) -> None:
    w = np.array(WIDTHS)
    for seed in range(20):
        latency = (1.0 + slope * w + curve * w**2) * noise(np.random.default_rng(seed), len(w))
        assert ends(latency) == WIDTHS


def test_a_width_slower_than_a_wider_one_ends_no_step() -> None:
    # Measured, 8 x conv 3 x 3, one thread: 30 channels are slower than 32, which are as fast as 28.
    widths = tuple(range(20, 66, 2))
    latency = np.select([np.array(widths) <= 32, np.array(widths) <= 48], [1.69, 3.8], 6.7)
    latency[widths.index(30)] = 2.32
    assert ends(latency, widths) == (32, 48)


def test_alternating_slow_widths_are_removed() -> None:
    w = np.array(WIDTHS)
    latency = (0.1 + w / 100) * np.where(w % 4 == 0, 1.0, 8.0)
    for seed in range(20):
        found = ends(latency * noise(np.random.default_rng(seed), len(w)))
        assert found == tuple(x for x in WIDTHS if x % 4 == 0)


def test_jumps_within_the_errors_are_no_steps() -> None:
    latency = 1 + 0.002 * (np.array(WIDTHS) // 16)
    assert ends(latency) == WIDTHS


def test_few_widths_and_exact_latencies() -> None:
    assert ends(np.array([1.0, 5.0, 2.0]), (1, 2, 3)) == (1, 2, 3)
    assert ends(np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0]), tuple(range(1, 8)), error=0.0) == (3, 6)
    assert least_latency([3.0, 1.0, 2.0]).tolist() == [1.0, 1.0, 2.0]


def test_malformed_sweeps_are_rejected() -> None:
    with pytest.raises(ValueError, match="got 1 and 2 for 2"):
        step_ends([1, 2], [1.0], [0.1, 0.1])
    with pytest.raises(ValueError, match=r"ascending widths, got \[2, 2\]"):
        step_ends([2, 2], [1.0, 1.0], [0.1, 0.1])
