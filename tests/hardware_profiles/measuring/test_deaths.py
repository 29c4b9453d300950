"""Whether models or the machine are to blame for a worker's death, on a simulated machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.errors import ConnectionLostError
from hardware_profiles.measuring.profiler import MAX_BATCH, MAX_DEATHS, WorkerProfiler
from tests.errors import raises
from tests.hardware_profiles.machine import Machine

MODELS = [b"%d" % i for i in range(MAX_BATCH)]
BATCH = [Deployment.single(model, {"x": np.zeros(1, np.float32)}) for model in MODELS]


@pytest.mark.parametrize(
    ("loading", "running"),
    [
        ((0, 3, 6, 9, 12, 15, 18), ()),
        ((), (0, 1)),
        ((), (7, 19)),
        ((2, 3, 5, 7, 11, 13, 17), (0, 1, 18)),
        ((), range(1, MAX_BATCH)),
    ],
)
def test_models_that_kill_the_worker_fail_alone(loading: tuple[int, ...], running: tuple[int, ...]) -> None:
    kill_loading, kill_running = ([MODELS[i] for i in which] for which in (loading, running))
    machine = Machine({}, kill_loading=kill_loading, kill_running=kill_running)
    with WorkerProfiler(HardwareProfile("p"), lambda: machine) as profiler:
        found = list(profiler.measure(BATCH))
    bad = {*loading, *running}
    assert {i for i, result in enumerate(found) if isinstance(result, LatencyFailure)} == bad
    assert all("SIGSEGV" in result.message for result in found if isinstance(result, LatencyFailure))
    assert all(isinstance(result, LatencyMeasurement) for i, result in enumerate(found) if i not in bad)


def test_a_machine_on_which_every_model_dies_is_to_blame() -> None:
    machine = Machine({}, kill_running=MODELS)
    with (
        WorkerProfiler(HardwareProfile("p"), lambda: machine) as profiler,
        raises("worker.machine-unstable", "SIGSEGV", "each of 20 models"),
    ):
        list(profiler.measure(BATCH))
    few = Machine({}, kill_running=MODELS)  # as the smallest and the largest network may be
    with WorkerProfiler(HardwareProfile("p"), lambda: few) as profiler:
        assert [type(result) for result in profiler.measure(BATCH[:2])] == [LatencyFailure] * 2


def test_a_lost_connection_does_not_fail_the_model_measured_alone() -> None:
    class Lossy(Machine):
        lost = False

        def receive(self, *, seconds: float) -> dict[str, Any]:
            answer = super().receive(seconds=seconds)
            if not self.lost and self.sessions[3:] == [MODELS[1:2]]:  # twice a suspect, together with model 0
                self.lost = True
                raise ConnectionLostError("no power")
            return answer

    machine = Lossy({}, kill_running=MODELS[:1])
    with WorkerProfiler(HardwareProfile("p"), lambda: machine) as profiler:
        killer, *others = profiler.measure(BATCH[:4])
    assert machine.sessions == [MODELS[:4], MODELS[:2], MODELS[:1], MODELS[1:2], MODELS[1:2], MODELS[2:4]]
    assert isinstance(killer, LatencyFailure)
    assert killer.environment == profiler.environment()
    assert all(isinstance(result, LatencyMeasurement) for result in others)


def test_a_machine_whose_worker_dies_of_the_sentinel_is_to_blame() -> None:
    machine = Machine({}, kill_loading=[b"sentinel"])
    with (
        WorkerProfiler(HardwareProfile("p"), lambda: machine) as profiler,
        raises("worker.machine-unstable", "SIGSEGV", f"{MAX_DEATHS} times"),
    ):
        list(profiler.measure(BATCH))
    assert len(machine.sessions) == MAX_DEATHS
