"""What is measured again, and after how long: with a machine whose every run is written down, for a real one is noisy when
it likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.measuring.profiler import WorkerProfiler

CALM = [1.0] * 6
WILD = [1.0, 1.8, 1.2, 2.5, 1.5, 2.1]


class Machine:
    """Answers as a worker does; implements `Connection`.

    Args:
        floors: by session, then by model (its bytes), the fastest run of each round in milliseconds; the last session's go on.
    """

    def __init__(self, *floors: Mapping[bytes, Sequence[float]]) -> None:
        self._floors = floors
        self._answers: list[dict[str, Any]] = []
        self._models: dict[str, bytes] = {}
        self._round = 0
        self.sessions: list[list[bytes]] = []

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        answer: dict[str, Any] = {"note": [], "conditions": {}, "environment": {}, "event": "ready"}
        if command["do"] == "acquire":
            self._models, self._round, answer["event"] = {}, 0, "acquired"
            self.sessions.append([])
        elif command["do"] == "load":
            model = payloads[0] if int(command["id"]) > 1 else b"sentinel"
            self._models[command["id"]] = model
            if model != b"sentinel":
                self.sessions[-1].append(model)
            answer |= {"event": "loaded", "warm_ms": 1.0, "session_ms": 1.0, "peak_mib": 1.0, "providers": ["CPU"]}
        elif command["do"] == "round":
            floors = self._floors[min(len(self.sessions), len(self._floors)) - 1]
            answer["entries"] = {}
            for id, n in command["order"]:
                times = [floors.get(self._models[id], CALM)[self._round]] * n
                answer["entries"][id] = {"wall_ms": times, "cpu_ms": times, "switches": [0] * n}
            self._round += 1
        self._answers.append(answer)

    def receive(self, *, seconds: float) -> dict[str, Any]:
        return self._answers.pop(0)

    def close(self) -> None:
        pass


def measure(
    machine: Machine, models: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[LatencyMeasurement | LatencyFailure], list[float]]:
    """The results, and the seconds slept before each attempt after the first."""
    slept: list[float] = []
    monkeypatch.setattr("hardware_profiles.measuring.profiler.time.sleep", slept.append)
    deployments = [Deployment.single(model, {"x": np.zeros(1, np.float32)}) for model in models]
    with WorkerProfiler(HardwareProfile("p"), lambda: machine) as profiler:
        return list(profiler.measure(deployments)), slept


def test_who_is_noisy_alone_is_measured_again_alone_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({b"b": WILD}, {b"b": [2.0] * 6})
    found, slept = measure(machine, [b"a", b"b", b"c"], monkeypatch)
    assert machine.sessions == [[b"a", b"b", b"c"], [b"b"]]
    assert [result.latency_ms for result in found if isinstance(result, LatencyMeasurement)] == [1.0, 2.0, 1.0]
    assert slept == []


def test_a_disturbed_machine_is_given_time_to_calm_down(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({b"a": WILD, b"b": WILD}, {b"a": WILD, b"b": WILD}, {})
    found, slept = measure(machine, [b"a", b"b"], monkeypatch)
    assert machine.sessions == [[b"a", b"b"]] * 3
    assert slept == [1.0, 4.0]
    assert not any(result.noisy for result in found if isinstance(result, LatencyMeasurement))


def test_a_machine_that_does_not_calm_down_gives_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({b"a": WILD})
    (found,), _ = measure(machine, [b"a"], monkeypatch)
    assert len(machine.sessions) == 3
    assert isinstance(found, LatencyFailure)
    assert "the machine is too noisy to say anything: after 3 measurements" in found.message
