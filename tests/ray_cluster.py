"""Real Ray clusters of several nodes on this machine, whose nodes come, go and are killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.cluster_utils import Cluster

from tests.processes import command_of, descendants

_STORE = 80 * 2**20
_PATIENCE_S = 60


@contextmanager
def running_cluster(*, head_cpus: int) -> Iterator[Cluster]:
    """A cluster of a head, to which this process is connected."""
    head = {"num_cpus": head_cpus, "include_dashboard": False, "object_store_memory": _STORE}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def add_node(cluster: Cluster) -> Any:
    """A further node of one CPU, once the cluster offers that."""
    before = free_cpus()
    node = cluster.add_node(num_cpus=1, object_store_memory=_STORE)
    deadline = time.monotonic() + _PATIENCE_S
    while free_cpus() <= before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return node


def free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0))


def actors_of(node: Any, *, name: bytes = b"ray::PoolActor") -> list[int]:
    """The processes of a node that do a pool's tasks, or those of another name."""
    return actors_below(node.all_processes["raylet"][0].process.pid, name=name)


def actors_below(pid: int, *, name: bytes = b"ray::PoolActor") -> list[int]:
    """The processes below another that do a pool's tasks, or those of another name."""
    return [child for child in descendants(pid) if name in command_of(child)]


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_node(cluster: Cluster, node: Any) -> None:
    """All of a node dies at once; by themselves, its actors would outlive its raylet by some seconds."""
    pids = actors_of(node)
    cluster.remove_node(node, allow_graceful=False)
    kill(pids)
