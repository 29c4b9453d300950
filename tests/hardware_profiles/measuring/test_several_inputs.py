"""A deployment of several inputs: a run calls each once, and its figures are those of one call on average."""

from __future__ import annotations

import runpy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hardware_profiles.base import Deployment, Graph, HardwareProfile, LatencyMeasurement
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.transports.connection import WORKER_FILE
from tests.hardware_profiles.machine import Machine

CODE = runpy.run_path(str(WORKER_FILE))
PROFILE = HardwareProfile("p")
ONE = {"x": np.zeros(1, np.float32)}


@pytest.fixture(autouse=True, scope="module")
def any_noise() -> None:
    """Nothing in place of the fixture that shortens the rounds of other tests: here the runs are counted."""


def sentence(length: int) -> dict[str, np.ndarray]:
    return {"ids": np.arange(length)[None] % 10}


class Clocked:
    """A session whose calls take as many seconds as their input is long; the thread computes half of the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, unknown: int = 0) -> None:
        self._unknown, self._now = unknown, 0.0
        self.lengths: list[int] = []
        clock = SimpleNamespace(perf_counter=lambda: self._now, thread_time=lambda: self._now / 2)
        monkeypatch.setitem(CODE["_time_runs"].__globals__, "time", clock)

    def run(self, names: None, feeds: dict[str, np.ndarray]) -> None:
        self.lengths.append(feeds["ids"].size)
        if self.lengths[-1] == self._unknown:
            raise ValueError("what length is that")
        self._now += self.lengths[-1]


def test_a_run_makes_one_call_for_each_input_in_order_and_takes_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Clocked(monkeypatch)
    wall, cpu, switches = CODE["_time_runs"](session, (sentence(2), sentence(64), sentence(5)), 4)
    assert session.lengths == [2, 64, 5] * 4
    assert (wall, cpu) == ([71_000.0] * 4, [35_500.0] * 4)
    assert len(switches) == 4


def test_warming_up_goes_through_all_inputs_and_tells_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Clocked(monkeypatch)
    assert CODE["_warm_up"](session, (sentence(2), sentence(64))) == 66_000.0
    assert session.lengths == [2, 64] * (len(session.lengths) // 2)


def test_the_input_that_fails_is_named_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = (sentence(2), sentence(64), sentence(5))
    with pytest.raises(RuntimeError, match=r"^input 3 of 3: what length is that$"):
        CODE["_time_runs"](Clocked(monkeypatch, unknown=5), calls, 4)
    with pytest.raises(ValueError, match=r"^what length is that$"):
        CODE["_time_runs"](Clocked(monkeypatch, unknown=5), calls[2:], 4)


def test_every_figure_is_of_one_call() -> None:
    """Beside a machine that takes 12 ms for each run, whatever is in it, and 1 ms for the sentinels'."""
    machine = Machine({model: [12.0] * 6 for model in (b"one", b"three", b"two graphs")})
    both = Deployment((Graph(b"one", (ONE,), "encoder"), Graph(b"three", (ONE,) * 3, "decoder", calls=2)))
    deployments = [Deployment.single(b"one", ONE), Deployment.single(b"three", ONE, ONE, ONE), both]
    with WorkerProfiler(PROFILE, lambda: machine) as profiler:
        one, three, sums = (found for found in profiler.measure(deployments) if isinstance(found, LatencyMeasurement))
    for found, expected in ((one, 12.0), (three, 4.0)):
        assert (found.latency_ms, found.p50_ms, found.p90_ms) == (expected, expected, expected)
        assert set(found.raw_ms) == set(found.raw_cpu_ms) == {expected}
        assert (found.samples, found.environment["sentinel_ms"]) == (6 * 15, 1.0)  # as many runs, not as many calls
        assert found.protocol == "interleaved-floor/v1"
    assert sums.latency_ms == 12.0 + 2 * 4.0


def test_what_is_measured_together_is_limited_by_the_inputs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardware_profiles.measuring.profiler.MAX_BATCH_BYTES", 1000)
    models = [b"a", b"b", b"c", b"d"]
    many: list[dict[str, np.ndarray[Any, Any]]] = [{"x": np.zeros(50, np.int64)}] * 2  # 800 bytes
    machine = Machine({})
    with WorkerProfiler(PROFILE, lambda: machine) as profiler:
        list(profiler.measure([Deployment.single(m, *(many if m == b"b" else many[:1])) for m in models]))
    assert machine.sessions == [[b"a"], [b"b"], [b"c", b"d"]]


def test_a_graph_needs_an_input() -> None:
    with pytest.raises(ValueError, match="graph 'decoder' has no example inputs; give those of one call at least"):
        Graph(b"", (), "decoder")
