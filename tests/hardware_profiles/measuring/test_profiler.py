"""The profiler on this machine, with real models in a real worker, independent of the machine's speed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, Graph, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.measuring.protocol import QUANTILE
from hardware_profiles.measuring.session import Limits
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.transports.connection import LocalConnection, local_command, worker_environment
from nas.plugins.testing.onnx_networks import conv_net
from tests.contracts.latency_profiler import LatencyProfilerContract
from tests.errors import raises
from tests.onnx_networks import endless

PROFILE = HardwareProfile("test")
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)


def deployment(channels: int = 8, depth: int = 2) -> Deployment:
    return Deployment.single(conv_net(channels, depth), {"x": IMAGE})


@pytest.fixture(scope="module")
def profiler() -> Iterator[WorkerProfiler]:
    with open_profiler(PROFILE) as made:
        yield made


def measured(result: LatencyMeasurement | LatencyFailure) -> LatencyMeasurement:
    assert isinstance(result, LatencyMeasurement), result
    return result


class TestHere(LatencyProfilerContract):
    def make(self) -> WorkerProfiler:
        return open_profiler(PROFILE)


def rounds_of(found: LatencyMeasurement, times: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return np.split(times, np.cumsum(found.round_lengths)[:-1])


def test_a_batch_is_measured_in_order_with_all_samples(profiler: WorkerProfiler) -> None:
    small, large = map(measured, profiler.measure([deployment(8, 1), deployment(64, 6)]))
    assert small.latency_ms < large.latency_ms / 5  # some 300 x the multiplications
    for found in (small, large):
        assert found.protocol == "interleaved-floor/v5"
        assert len(found.round_lengths) == 6
        assert found.raw_ms.shape == found.raw_cpu_ms.shape == (sum(found.round_lengths),)
        assert found.samples == found.raw_ms.size
        assert found.environment["graphs"][0]["clock"] == "thread-cpu"
        # At the machine's usual speed, which may be another than that of these rounds.
        assert found.raw_cpu_ms.min() / 2 <= found.latency_ms <= 2 * np.median(found.raw_cpu_ms)
        assert found.p50_ms == np.median(found.raw_ms)
        assert found.resolution >= found.environment["noise"] > 0
        assert found.seconds > 0
        assert json.loads(json.dumps(found.environment)) == found.environment
    assert small.environment["pinned_cpus"] == large.environment["pinned_cpus"]
    assert {"cpu", "cores", "governor", "onnxruntime", "numpy", "provider", "threads", "platform"} <= set(
        small.environment
    )


def test_a_deployment_without_a_graph_fails_alone(profiler: WorkerProfiler) -> None:
    good, empty = profiler.measure([deployment(), Deployment(())])
    assert isinstance(empty, LatencyFailure)
    assert "no graph" in empty.message
    assert empty.environment["pinned_cpus"] == measured(good).environment["pinned_cpus"]


def test_the_latency_of_two_graphs_is_the_sum_of_calls_times_latency(profiler: WorkerProfiler) -> None:
    once = Graph(conv_net(8, 2), ({"x": IMAGE},), name="encoder")
    often = Graph(conv_net(8, 1), ({"x": IMAGE},), name="decoder", calls=7)
    found, broken = profiler.measure(
        [Deployment((once, often)), Deployment((once, Graph(b"junk", ({},), name="decoder")))]
    )
    parts = measured(found).environment["graphs"]
    assert [part["name"] for part in parts] == ["encoder", "decoder"]
    assert measured(found).latency_ms == pytest.approx(parts[0]["latency_ms"] + 7 * parts[1]["latency_ms"])
    assert len(measured(found).round_lengths) == 12
    assert isinstance(broken, LatencyFailure)
    assert broken.message.startswith("graph 'decoder': ")


def test_more_threads_than_cores_are_rejected_before_anything_starts() -> None:
    with raises("profile.too-few-cpus", "1000"):
        open_profiler(replace(PROFILE, threads=1000))


def test_a_worker_killed_between_measurements_is_started_again() -> None:
    started: list[LocalConnection] = []

    def connect() -> LocalConnection:
        started.append(LocalConnection(local_command(), worker_environment(1)))
        return started[-1]

    with WorkerProfiler(PROFILE, connect) as made:
        measured(next(made.measure([deployment()])))
        os.kill(started[0].pid, signal.SIGKILL)
        measured(next(made.measure([deployment()])))
        assert len(started) == 2
    made.close()
    assert not Path(f"/proc/{started[1].pid}").exists()


def test_a_model_that_hangs_fails_alone_and_the_others_are_measured() -> None:
    forever = Deployment.single(endless(), {"x": np.ones(1, np.float32)})
    with open_profiler(PROFILE, limits=Limits(answer=2.0)) as made:
        first, hung, last = made.measure([deployment(), forever, deployment()])
    measured(first)
    measured(last)
    assert isinstance(hung, LatencyFailure)
    assert "2 s" in hung.message


def test_a_machine_whose_worker_always_dies_is_to_blame() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no runtime')"]
    with WorkerProfiler(PROFILE, lambda: LocalConnection(command, worker_environment(1))) as made:
        for ask in (lambda: list(made.measure([deployment()])), made.environment):
            with raises("worker.machine-unstable", "exit code 1: no runtime", "6 times"):
                ask()


def test_waiting_for_another_measurement_is_announced_once(tmp_path: Path) -> None:
    lock, messages = tmp_path / "lock", list[str]()
    with lock.open("w") as file:
        release = threading.Timer(0.5, fcntl.flock, (file, fcntl.LOCK_UN))

        def on_wait(text: str) -> None:
            messages.append(text)
            if len(messages) == 1:  # the lock stays held for a while, without another message
                release.start()

        ends: list[int] = []
        with open_profiler(
            PROFILE,
            lock=str(lock),
            on_wait=on_wait,
            on_wait_end=lambda: ends.append(len(messages)),
            limits=Limits(lock=60.0),
        ) as made:
            file.write("4711")
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX)
            measured(next(made.measure([deployment()])))
            release.join()
    assert len(messages) == 1
    assert "4711" in messages[0]
    assert ends == [1]


def test_a_lock_that_cannot_be_opened_ends_the_measurement(tmp_path: Path) -> None:
    with (
        open_profiler(PROFILE, lock=str(tmp_path)) as made,
        raises("worker.lock-unusable", str(tmp_path), "Is a directory"),
    ):
        list(made.measure([deployment()]))


def test_waiting_for_the_lock_has_a_timeout(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as file, open_profiler(PROFILE, lock=str(lock), limits=Limits(lock=0.1)) as made:
        fcntl.flock(file, fcntl.LOCK_EX)
        with raises("worker.lock-timeout", str(lock), "unknown"):
            list(made.measure([deployment()]))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_two_threads_use_the_10th_percentile() -> None:
    with open_profiler(replace(PROFILE, threads=2)) as made:
        found = measured(next(made.measure([deployment(32, 3)])))
    rounds = [float(np.percentile(times, 10)) for times in rounds_of(found, found.raw_ms)]
    assert min(rounds) - 1e-9 <= found.latency_ms <= np.percentile(rounds, 100 * QUANTILE) + 1e-9
    assert found.environment["threads"] == len(found.environment["pinned_cpus"]) == 2
