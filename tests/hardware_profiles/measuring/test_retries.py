"""Which entries are re-measured and after which pause, on a simulated machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.measuring.profiler import WorkerProfiler
from tests.hardware_profiles.machine import Machine

WILD = [1.0, 1.8, 1.2, 2.5, 1.5, 2.1]


@pytest.fixture(autouse=True, scope="module")
def any_noise() -> None:
    """Replaces the fixture that makes other tests accept any noise: here the limit is under test."""


def measure(
    machine: Machine, models: Sequence[bytes], monkeypatch: pytest.MonkeyPatch, levels: list[float] | None = None
) -> tuple[list[LatencyMeasurement | LatencyFailure], list[float]]:
    """The results, and the seconds slept before each attempt after the first."""
    slept: list[float] = []
    monkeypatch.setattr("hardware_profiles.measuring.profiler.time.sleep", slept.append)
    deployments = [Deployment.single(model, {"x": np.zeros(1, np.float32)}) for model in models]
    with WorkerProfiler(HardwareProfile("p"), lambda: machine, levels=levels) as profiler:
        return list(profiler.measure(deployments)), slept


def test_a_single_noisy_entry_is_remeasured_alone_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({b"b": WILD}, {b"b": [2.0] * 6})
    found, slept = measure(machine, [b"a", b"b", b"c"], monkeypatch)
    assert machine.sessions == [[b"a", b"b", b"c"], [b"b"]]
    assert [result.latency_ms for result in found if isinstance(result, LatencyMeasurement)] == [1.0, 2.0, 1.0]
    assert slept == []


def test_retries_on_a_disturbed_machine_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({b"a": WILD, b"b": WILD}, {b"a": WILD, b"b": WILD}, {})
    found, slept = measure(machine, [b"a", b"b"], monkeypatch)
    assert machine.sessions == [[b"a", b"b"]] * 3
    assert slept == [1.0, 4.0]
    assert not any(result.noisy for result in found if isinstance(result, LatencyMeasurement))


def test_a_machine_that_stays_disturbed_gives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({b"a": WILD})
    (found,), slept = measure(machine, [b"a"], monkeypatch)
    assert len(machine.sessions) == 4
    assert slept == [1.0, 4.0, 10.0]
    assert isinstance(found, LatencyFailure)
    assert "uncertain by" in found.message
    assert "after 4 measurements" in found.message
    assert found.environment["level_ms"] == 1.0


def test_an_entry_without_a_valid_measurement_is_retried_a_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    wild = {b"a": WILD, b"b": [2.0, 2.1, 2.2, 2.0, 2.15, 2.3]}
    machine = Machine(wild, wild, wild, {})
    found, slept = measure(machine, [b"a", b"b"], monkeypatch)
    assert machine.sessions == [*[[b"a", b"b"]] * 3, [b"a"]]  # b has a measurement, though a wide one
    assert slept == [1.0, 4.0, 10.0]
    first, second = found
    assert isinstance(first, LatencyMeasurement)
    assert isinstance(second, LatencyMeasurement)
    assert (first.latency_ms, first.noisy, second.noisy) == (1.0, False, True)


def test_levels_of_previous_sessions_identify_a_slower_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[float] = []
    measure(Machine({}), [b"a"], monkeypatch, levels)
    assert levels == [1.0]
    slower = {b"sentinel": [1.2] * 6, b"a": [1.2] * 6}  # as after a frequency step: quiet, and 20 % slow
    (alone,), _ = measure(Machine(slower), [b"a"], monkeypatch)
    assert isinstance(alone, LatencyMeasurement)
    assert not alone.noisy
    (found,), slept = measure(Machine(slower, slower, {}), [b"a"], monkeypatch, levels)
    assert isinstance(found, LatencyMeasurement)
    assert (found.latency_ms, found.noisy, slept) == (1.0, False, [1.0, 4.0])
    assert levels == [1.0, 1.2, 1.2, 1.0]
    (kept,), _ = measure(Machine(slower), [b"a"], monkeypatch, levels)
    assert isinstance(kept, LatencyMeasurement)
    assert kept.noisy
    assert kept.resolution == pytest.approx(0.2)
