"""Which of several attempts is kept."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_profiles.base import LatencyFailure, LatencyMeasurement
from hardware_profiles.results import keep_best


def attempt(latency_ms: float, resolution: float, *, noisy: bool = True) -> LatencyMeasurement:
    none = np.empty(0)
    return LatencyMeasurement(latency_ms, resolution, latency_ms, 0, 0.0, noisy, "p", {}, none, none, (), seconds=1.0)


def test_a_quiet_attempt_is_kept_as_it_is_and_pays_for_all() -> None:
    found = keep_best([attempt(9, 0.5), attempt(2, 0.01, noisy=False)])
    assert isinstance(found, LatencyMeasurement)
    assert (found.latency_ms, found.resolution, found.noisy, found.seconds) == (2, 0.01, False, 2.0)


def test_of_noisy_attempts_the_most_settled_is_kept_as_wide_as_they_differ() -> None:
    found = keep_best([attempt(2.4, 0.3), attempt(2.0, 0.1), attempt(2.1, 0.2)])
    assert isinstance(found, LatencyMeasurement)
    assert (found.latency_ms, found.noisy, found.seconds) == (2.0, True, 3.0)
    assert found.resolution == pytest.approx(0.4 / 2.0)


def test_a_failure_stays_one() -> None:
    assert keep_best([attempt(2, 0.3), LatencyFailure("gone")]) == LatencyFailure("gone")
