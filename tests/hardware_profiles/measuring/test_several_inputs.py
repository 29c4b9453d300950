"""Deployments with several inputs: a run makes one call with each, and its times are averages per call."""

from __future__ import annotations

import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hardware_profiles.base import Deployment, Graph, HardwareProfile, LatencyMeasurement
from hardware_profiles.measuring.profiler import MAX_BATCH_BYTES, WorkerProfiler
from hardware_profiles.measuring.worker import model_runs
from hardware_profiles.measuring.worker.model_runs import time_runs, warm_up
from tests.hardware_profiles.machine import Machine

PROFILE = HardwareProfile("p")
ONE = {"x": np.zeros(1, np.float32)}


@pytest.fixture(autouse=True, scope="module")
def short_rounds() -> None:
    """Replaces the fixture that shortens the rounds of other tests: here the runs are counted."""


def sentence(length: int) -> dict[str, np.ndarray]:
    return {"ids": np.arange(length)[None] % 10}


class Clocked:
    """A session whose calls take as many seconds as their input is long; the thread computes half of the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, unknown: int = 0) -> None:
        self._unknown, self._now = unknown, 0.0
        self.lengths: list[int] = []
        clock = SimpleNamespace(perf_counter=lambda: self._now, thread_time=lambda: self._now / 2)
        monkeypatch.setattr(model_runs, "time", clock)

    def run(self, feeds: dict[str, np.ndarray]) -> None:
        self.lengths.append(feeds["ids"].size)
        if self.lengths[-1] == self._unknown:
            raise ValueError("unknown length")
        self._now += self.lengths[-1]


def test_a_run_makes_one_call_with_each_input_in_order_and_sums_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Clocked(monkeypatch)
    wall, cpu, switches = time_runs(session, (sentence(2), sentence(64), sentence(5)), 4)
    assert session.lengths == [2, 64, 5] * 4
    assert (wall, cpu) == ([71_000.0] * 4, [35_500.0] * 4)
    assert len(switches) == 4


def test_warm_up_runs_all_inputs_and_sums_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Clocked(monkeypatch)
    assert warm_up(session, (sentence(2), sentence(64))) == 66_000.0
    assert session.lengths == [2, 64] * (len(session.lengths) // 2)


def test_of_several_inputs_the_failing_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = (sentence(2), sentence(64), sentence(5))
    with pytest.raises(RuntimeError, match=r"^input 3 of 3: unknown length$"):
        time_runs(Clocked(monkeypatch, unknown=5), calls, 4)
    with pytest.raises(ValueError, match=r"^unknown length$"):
        time_runs(Clocked(monkeypatch, unknown=5), calls[2:], 4)


def test_every_value_is_per_call() -> None:
    """On a simulated machine with 12 ms for every run, and 1 ms for the sentinels'."""
    machine = Machine({model: [12.0] * 6 for model in (b"one", b"three", b"two graphs")})
    both = Deployment((Graph(b"one", (ONE,), "encoder"), Graph(b"three", (ONE,) * 3, "decoder", calls=2)))
    deployments = [Deployment.single(b"one", ONE), Deployment.single(b"three", ONE, ONE, ONE), both]
    with WorkerProfiler(PROFILE, lambda: machine) as profiler:
        one, three, sums = (found for found in profiler.measure(deployments) if isinstance(found, LatencyMeasurement))
    for found, expected in ((one, 12.0), (three, 4.0)):
        assert (found.latency_ms, found.p50_ms) == (expected, expected)
        assert set(found.raw_ms) == set(found.raw_cpu_ms) == {expected}
        assert (found.samples, found.environment["sentinel_ms"]) == (10 * 4, 1.0)  # the number of runs, not of calls
        assert found.protocol == "interleaved-floor/v5"
    assert sums.latency_ms == 12.0 + 2 * 4.0


def test_the_size_of_a_batch_includes_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardware_profiles.measuring.profiler.MAX_BATCH_BYTES", 1000)
    models = [b"a", b"b", b"c", b"d"]
    many: list[dict[str, np.ndarray[Any, Any]]] = [{"x": np.zeros(50, np.int64)}] * 2  # 800 bytes
    machine = Machine({})
    with WorkerProfiler(PROFILE, lambda: machine) as profiler:
        list(profiler.measure([Deployment.single(m, *(many if m == b"b" else many[:1])) for m in models]))
    assert machine.sessions == [[b"a"], [b"b"], [b"c", b"d"]]


def test_large_deployments_share_rounds_where_the_machine_has_memory_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardware_profiles.measuring.profiler.MAX_BATCH_BYTES", 400)
    machine = Machine({})
    given = {"x": np.zeros(2**17 // 8, np.int64)}  # an eighth of a mebibyte
    with WorkerProfiler(PROFILE, lambda: machine) as profiler:
        monkeypatch.setattr(profiler, "environment", lambda: {"memory_mib": 3})
        list(profiler.measure([Deployment.single(model, given) for model in (b"a", b"b", b"c")]))
    assert machine.sessions == [[b"a"], [b"b"], [b"c"]]  # two have 262,146 bytes, more than a twelfth of 3 MiB
    with WorkerProfiler(PROFILE, lambda: machine) as profiler:
        monkeypatch.setattr(profiler, "environment", lambda: {"memory_mib": 4})
        list(profiler.measure([Deployment.single(model, given) for model in (b"a", b"b", b"c")]))
    assert machine.sessions[3:] == [[b"a", b"b"], [b"c"]]


def test_the_memory_of_a_machine_is_not_that_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    profiler = WorkerProfiler(replace(PROFILE, provider="CUDAExecutionProvider"), lambda: Machine({}))
    monkeypatch.setattr(profiler, "environment", lambda: {"memory_mib": 2**20})
    assert profiler.batch_bytes() == MAX_BATCH_BYTES


def test_large_deployments_are_made_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these is a batch alone; the next one is made when the one before has been measured and is no longer held."""
    monkeypatch.setattr("hardware_profiles.measuring.profiler.MAX_BATCH_BYTES", 400)
    machine, held = Machine({}), list[weakref.ref[np.ndarray[Any, Any]]]()

    def made(model: bytes) -> Deployment:
        assert len(machine.sessions) == len(held)
        assert all(own() is None for own in held)
        given = np.zeros(50, np.int64)
        held.append(weakref.ref(given))
        return Deployment.single(model, {"x": given})

    with WorkerProfiler(PROFILE, lambda: machine) as profiler:
        assert len(list(profiler.measure(made(model) for model in (b"a", b"b", b"c")))) == 3


def test_a_process_that_held_a_large_model_ends_with_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardware_profiles.measuring.profiler.MAX_BATCH_BYTES", 10)
    monkeypatch.setattr("hardware_profiles.measuring.profiler.LARGE_BYTES", 2)
    machine, connected = Machine({}), list[int]()

    def connect() -> Machine:
        connected.append(len(machine.sessions))
        return machine

    given = np.zeros(1, np.int64)
    with WorkerProfiler(PROFILE, connect) as profiler:
        list(profiler.measure([Deployment.single(model, {"x": given}) for model in (b"a", b"bb", b"c", b"d")]))
    assert len(machine.sessions) == 4
    assert connected == [0, 2]  # anew after the second session


def test_a_graph_needs_an_input() -> None:
    with pytest.raises(ValueError, match="'decoder'"):
        Graph(b"", (), "decoder")
