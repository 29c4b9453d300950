"""How many rounds a session takes, on a simulated machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_profiles.base import Deployment, HardwareProfile, LatencyMeasurement
from hardware_profiles.measuring.pace import Speed
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.measuring.protocol import ENOUGH_ROUNDS, LEAST_LONGER_ROUNDS, LEAST_ROUNDS, MOST_ROUNDS
from hardware_profiles.measuring.speed_record import SpeedRecord
from tests.hardware_profiles.machine import Machine

A = {"host": "a"}
DEPLOYMENT = Deployment.single(b"a", {"x": np.zeros(1, np.float32)})
WILD = [1.0 + 0.1 * i for i in range(MOST_ROUNDS)]


@pytest.fixture(autouse=True, scope="module")
def short_rounds() -> None:
    """Replaces the fixture that shortens the rounds of other tests: here their number is under test."""


def host(environment: Mapping[str, Any]) -> str:
    return str(environment["host"])


def measure(
    machine: Machine, models: Sequence[bytes], *, usual: Speed | None = None, longer: bool = False
) -> list[LatencyMeasurement]:
    deployments = [Deployment.single(model, {"x": np.zeros(1, np.float32)}) for model in models]
    with WorkerProfiler(HardwareProfile("p"), lambda: machine, usual=usual) as profiler:
        found = list(profiler.measure(deployments, longer=longer))
    return [result for result in found if isinstance(result, LatencyMeasurement)]


def n_rounds(machine: Machine, model: bytes) -> int:
    return sum(model in order for order in machine.rounds)


def test_a_quiet_machine_is_measured_in_the_fewest_rounds() -> None:
    machine = Machine({})
    assert [found.latency_ms for found in measure(machine, [b"a", b"b"])] == [1.0, 1.0]
    assert len(machine.rounds) == LEAST_ROUNDS
    assert all(sorted(order) == [b"a", b"b", b"call", b"sentinel", b"sentinel", b"small"] for order in machine.rounds)
    assert len({tuple(order) for order in machine.rounds}) > 1
    longer = Machine({})
    measure(longer, [b"a"], longer=True)
    assert len(longer.rounds) == LEAST_LONGER_ROUNDS


def test_only_what_does_not_repeat_gets_more_rounds_beside_the_sentinels() -> None:
    late = [2.0] * 4 + [2.5] * 6 + [2.0]  # four fast rounds of ten may be chance
    machine = Machine({b"b": late, b"c": WILD})
    a, b, c = measure(machine, [b"a", b"b", b"c"])
    assert [n_rounds(machine, model) for model in (b"a", b"b", b"c")] == [LEAST_ROUNDS, 16, ENOUGH_ROUNDS]
    assert n_rounds(machine, b"small") == ENOUGH_ROUNDS
    assert (a.noisy, b.noisy, c.noisy) == (False, False, True)
    assert b.latency_ms == 2.0
    assert len(machine.sessions) == 1


def test_a_slower_machine_gives_the_same_latency() -> None:
    """Quiet, and slow for whole sessions; the first one tells the usual speed."""
    slower = {b"sentinel": [1.2], b"small": [1.5], b"a": [1.2]}
    machine = Machine({}, slower)
    with WorkerProfiler(HardwareProfile("p"), lambda: machine) as profiler:
        found = [next(iter(profiler.measure([DEPLOYMENT]))) for _ in range(2)]
    first, second = (result for result in found if isinstance(result, LatencyMeasurement))
    assert first.latency_ms == second.latency_ms == pytest.approx(1.0)
    assert (first.noisy, second.noisy) == (False, True)
    assert first.environment["usual"] == second.environment["usual"]
    assert second.environment["speed"]["small_ms"] == 1.5
    (later,) = measure(Machine(slower), [b"a"], usual=Speed.from_json(first.environment["usual"]))
    assert later.latency_ms == pytest.approx(1.0)


def test_a_round_that_was_slow_for_all_changes_nothing() -> None:
    """A busy neighbour on the core for nine of ten rounds."""
    busy = [1.3] * 9 + [1.0]
    machine = Machine(dict.fromkeys((b"sentinel", b"small", b"call", b"a"), busy))
    (found,) = measure(machine, [b"a"], usual=Speed(1.0, 1.0, 1.0))
    assert found.latency_ms == pytest.approx(1.0)
    assert len(machine.rounds) == LEAST_ROUNDS


def test_a_record_tells_the_usual_speed_and_a_quiet_session_replaces_that_of_a_busy_machine(tmp_path: Path) -> None:
    record, busy = SpeedRecord(tmp_path, host), {name: [1.2] for name in (b"sentinel", b"small", b"call", b"a")}

    def found(machine: Machine) -> LatencyMeasurement:
        with WorkerProfiler(HardwareProfile("p"), lambda: machine, record=record) as profiler:
            (result,) = profiler.measure([DEPLOYMENT])
        assert isinstance(result, LatencyMeasurement)
        return result

    interrupted = Machine(busy, taken=0.5)
    assert found(interrupted).latency_ms == pytest.approx(1.2)  # all that is known
    assert found(Machine({})).latency_ms == 1.0
    assert found(Machine(busy, taken=0.5)).latency_ms == pytest.approx(1.0)


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    record = SpeedRecord(tmp_path, host)
    record.add(A, Speed(0.1, 1.0, 2.0))
    (file,) = tmp_path.iterdir()
    file.write_text(
        file.read_text()
        + '{"small_ms": 1}\n{"call_ms": 1, "small_ms": 0, "large_ms": 1, "taken": 0, "error": 0}\nnonsense\n',
        encoding="utf-8",
    )
    assert record.read(A) == [Speed(0.1, 1.0, 2.0)]
    assert record.read({"host": "b"}) == []
    nowhere = SpeedRecord(file, host)  # a file in place of the folder
    nowhere.add(A, Speed(0.1, 1.0, 2.0))
    assert nowhere.read(A) == []


def test_a_record_keeps_the_recent_quiet_sessions(tmp_path: Path) -> None:
    record = SpeedRecord(tmp_path, host)
    record.add(A, Speed(9.0, 9.0, 9.0, other_load=0.5))
    assert record.read(A) == [Speed(9.0, 9.0, 9.0, other_load=0.5)]
    for i in range(43):
        record.add(A, Speed(0.1, 1.0 + i, 2.0))
    record.add(A, Speed(9.0, 9.0, 9.0, other_load=0.5))  # however long the machine is busy, its own speed stays known
    assert [speed.small_ms for speed in record.read(A)] == [1.0 + i for i in range(3, 43)]
    assert len(list(tmp_path.iterdir())) == 1
