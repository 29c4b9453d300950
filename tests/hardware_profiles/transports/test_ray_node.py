"""Measuring on a node of a Ray cluster: two real nodes on this machine, one with the resource."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from hardware_profiles.base import Deployment, HardwareProfile, LatencyMeasurement
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.transports import ray_node
from hardware_profiles.transports.connection import Connection
from hardware_profiles.transports.ray_node import connect_by_ray
from nas.plugins.testing.onnx_networks import conv_net
from tests.contracts.latency_profiler import LatencyProfilerContract
from tests.errors import raises
from tests.processes import command_of, descendants
from tests.ray_cluster import running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray]

PROFILE = HardwareProfile("a-node", placement={"hw-test": 1})
DOOMED = HardwareProfile("a-node", placement={"hw-doomed": 1})
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
SMALL, LARGE = (Deployment.single(conv_net(*size), {"x": IMAGE}) for size in ((8, 1), (64, 6)))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(head_cpus=1) as made:
        yield made


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Any:
    """A node with the resource and, as a board's should be, without CPUs."""
    return cluster.add_node(num_cpus=0, resources=PROFILE.placement)


@pytest.fixture
def doomed(cluster: Cluster) -> Any:
    """A node with another resource, for tests that kill it."""
    return cluster.add_node(num_cpus=0, resources=DOOMED.placement)


def workers(node: Any) -> list[int]:
    """The measuring processes of a node."""
    raylet = node.all_processes["raylet"][0].process.pid
    return [pid for pid in descendants(raylet) if b"worker/__main__.py" in command_of(pid)]


def kill(cluster: Cluster, node: Any) -> None:
    """Kills a node and waits for its workers to end: an actor outlives its node long enough to measure a small model."""
    watched = [os.pidfd_open(pid) for pid in workers(node)]
    cluster.remove_node(node, allow_graceful=False)
    for handle in watched:
        assert select.select([handle], [], [], 30)[0], "a worker outlives its node"
        os.close(handle)


class Watched:
    """A connection that calls `act` once, while the worker is in the second round of a batch."""

    def __init__(self, inner: Connection, act: Callable[[], None]) -> None:
        self._inner, self._act, self._rounds = inner, act, 0

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        self._inner.send(command, payloads)
        self._rounds += command["do"] == "round"
        if self._rounds == 2:
            self._act()

    def receive(self, *, seconds: float) -> dict[str, Any]:
        return self._inner.receive(seconds=seconds)

    def close(self) -> None:
        self._inner.close()


def test_without_a_cluster_the_profile_is_rejected() -> None:
    assert not ray.is_initialized()
    with open_profiler(PROFILE) as profiler, raises("profile.no-cluster", "hw-test: 1", "address"):
        profiler.environment()


@pytest.mark.usefixtures("node")
class TestOnARayNode(LatencyProfilerContract):
    def make(self) -> WorkerProfiler:
        return open_profiler(PROFILE)


def test_models_are_measured_on_the_node_that_offers_the_resource(node: Any) -> None:
    # Two profiles of one node take turns: neither reserves the resource.
    with open_profiler(PROFILE) as first, open_profiler(replace(PROFILE, name="twin")) as second:
        results = [next(profiler.measure([SMALL])) for profiler in (first, second)]
        assert first.environment()["ray_node"] == node.node_id
    for found, name in zip(results, ("a-node", "twin"), strict=True):
        assert isinstance(found, LatencyMeasurement)
        assert found.environment["ray_node"] == node.node_id
        assert found.environment["profile"] == name


def test_a_worker_that_dies_on_the_node_is_restarted(node: Any) -> None:
    def kill_workers() -> None:
        for pid in workers(node):
            os.kill(pid, signal.SIGKILL)

    tries = [lambda: Watched(connect_by_ray(PROFILE), kill_workers)]
    with WorkerProfiler(PROFILE, lambda: tries.pop()() if tries else connect_by_ray(PROFILE)) as profiler:
        small, large = profiler.measure([SMALL, LARGE])
    assert isinstance(small, LatencyMeasurement)
    assert isinstance(large, LatencyMeasurement)
    assert small.latency_ms < large.latency_ms / 5


def test_a_node_that_dies_and_is_not_replaced_ends_the_measurement(cluster: Cluster, doomed: Any) -> None:
    tries = [lambda: Watched(connect_by_ray(DOOMED), lambda: kill(cluster, doomed))]
    with (
        WorkerProfiler(
            replace(DOOMED, wait_minutes=0.01), lambda: tries.pop()() if tries else connect_by_ray(DOOMED)
        ) as profiler,
        raises("worker.machine-lost", "a-node", "hw-doomed: 1"),
    ):
        list(profiler.measure([SMALL]))


def test_a_node_that_dies_during_a_measurement_is_replaced(cluster: Cluster, doomed: Any) -> None:
    made: list[Any] = []

    def replace_node() -> None:
        kill(cluster, doomed)
        made.append(cluster.add_node(num_cpus=0, resources=DOOMED.placement))

    tries = [lambda: Watched(connect_by_ray(DOOMED), replace_node)]
    with WorkerProfiler(DOOMED, lambda: tries.pop()() if tries else connect_by_ray(DOOMED)) as profiler:
        (found,) = profiler.measure([SMALL])
    cluster.remove_node(made[0], allow_graceful=False)
    assert isinstance(found, LatencyMeasurement)
    assert found.environment["ray_node"] == made[0].node_id


def test_a_resource_that_no_node_offers_is_rejected_with_the_offered_ones(cluster: Cluster) -> None:
    with (
        open_profiler(replace(PROFILE, placement={"hw-absent": 2}), await_first=False) as profiler,
        raises("profile.unreachable", "hw-absent: 2", "they offer CPU", "ray start"),
    ):
        profiler.environment()


@pytest.mark.usefixtures("node")
def test_a_node_that_cannot_start_a_worker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking:
        def __init__(self, threads: int, runtime: str) -> None:
            raise ModuleNotFoundError("No module named 'hardware_profiles'")

        def pid(self) -> int:
            return 0

    monkeypatch.setattr(ray_node, "_Relay", Lacking)
    with (
        open_profiler(PROFILE) as profiler,
        raises("profile.node-broken", "hw-test: 1", "ModuleNotFoundError"),
    ):
        profiler.environment()


def test_a_nodes_worker_checks_the_requirements(node: Any) -> None:
    with (
        open_profiler(replace(PROFILE, threads=1000)) as profiler,
        raises("profile.too-few-cpus", "profile a-node", "1000"),
    ):
        profiler.environment()
