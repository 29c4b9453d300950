"""How many rounds a session takes, on a simulated machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hardware_profiles.base import Deployment, HardwareProfile, LatencyMeasurement
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.measuring.protocol import LEAST_LONGER_ROUNDS, LEAST_ROUNDS, MOST_ROUNDS
from tests.hardware_profiles.machine import Machine

WILD = [1.0 + 0.1 * i for i in range(MOST_ROUNDS)]


@pytest.fixture(autouse=True, scope="module")
def short_rounds() -> None:
    """Replaces the fixture that shortens the rounds of other tests: here their number is under test."""


def measure(
    machine: Machine, models: Sequence[bytes], *, levels: list[float] | None = None, longer: bool = False
) -> list[LatencyMeasurement]:
    deployments = [Deployment.single(model, {"x": np.zeros(1, np.float32)}) for model in models]
    with WorkerProfiler(HardwareProfile("p"), lambda: machine, levels=levels) as profiler:
        found = list(profiler.measure(deployments, longer=longer))
    return [result for result in found if isinstance(result, LatencyMeasurement)]


def n_rounds(machine: Machine, model: bytes) -> int:
    return sum(model in order for order in machine.rounds)


def test_a_quiet_machine_is_measured_in_the_fewest_rounds() -> None:
    machine = Machine({})
    assert [found.latency_ms for found in measure(machine, [b"a", b"b"])] == [1.0, 1.0]
    assert len(machine.rounds) == LEAST_ROUNDS
    assert all(sorted(order) == [b"a", b"b", b"call", b"sentinel", b"sentinel"] for order in machine.rounds)
    assert len({tuple(order) for order in machine.rounds}) > 1
    longer = Machine({})
    measure(longer, [b"a"], longer=True)
    assert len(longer.rounds) == LEAST_LONGER_ROUNDS


def test_only_what_does_not_repeat_gets_more_rounds_beside_the_sentinels() -> None:
    late = [2.0] + [2.5] * 9 + [2.0]  # one fast round of ten may be chance
    machine = Machine({b"b": late, b"c": WILD})
    a, b, c = measure(machine, [b"a", b"b", b"c"])
    assert [n_rounds(machine, model) for model in (b"a", b"b", b"c")] == [LEAST_ROUNDS, 16, MOST_ROUNDS]
    assert n_rounds(machine, b"call") == MOST_ROUNDS
    assert (a.noisy, b.noisy, c.noisy) == (False, False, True)
    assert b.latency_ms == 2.0
    assert len(machine.sessions) == 1


def test_rounds_go_on_until_half_of_them_are_calm() -> None:
    """A busy neighbour on the core for twelve rounds; what repeats meanwhile is not the fastest."""
    machine = Machine({b"call": [1.5] * 12 + [1.0], b"a": [1.3] * 12 + [1.0]})
    (found,) = measure(machine, [b"a"], levels=[1.0])
    assert (found.latency_ms, found.noisy, len(machine.rounds)) == (1.0, False, 24)


def test_previous_sessions_tell_a_slower_machine() -> None:
    levels: list[float] = []
    measure(Machine({}), [b"a"], levels=levels)
    assert levels == [1.0]
    slower = {b"call": [1.5], b"a": [1.2]}  # quiet, and slow for the whole session
    (alone,) = measure(Machine(slower), [b"a"])
    assert not alone.noisy
    machine = Machine(slower)
    (found,) = measure(machine, [b"a"], levels=levels)
    assert (found.latency_ms, found.noisy, len(machine.rounds)) == (1.2, True, MOST_ROUNDS)
    assert found.resolution == pytest.approx(0.5)
    assert levels == [1.0, 1.5]
