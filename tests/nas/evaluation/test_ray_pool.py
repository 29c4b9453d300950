"""Scoring over a Ray cluster that changes: real nodes on this machine come and go, and actors die, while tasks are scored."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from nas.errors import EvaluationError
from nas.evaluation import ray_pool
from nas.evaluation.ray_pool import RayPool
from nas.evaluation.subnets import InlineScoring, Scored, Task
from supernets.base import Supernet
from supernets.checkpoint import make_supernet
from supernets.data import DataSet
from tests.conftest import digits_family
from tests.hardware_profiles.sshd import descendants

pytestmark = pytest.mark.slow

Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Calibration images, images and labels."""
_STORE = 80 * 2**20
_PATIENCE_S = 60


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Its head offers no CPU; tests add the nodes that do."""
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE}
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


@pytest.fixture(scope="module")
def supernet(digits: DataSet) -> Supernet:
    torch.manual_seed(0)
    return make_supernet(digits_family(digits), "slice")


@pytest.fixture(scope="module")
def parts(digits: DataSet) -> Parts:
    return digits.train.images[:200], digits.validation.images, digits.validation.labels


@pytest.fixture
def pool(cluster: Cluster, supernet: Supernet, parts: Parts) -> Iterator[RayPool]:
    made = RayPool(supernet, *parts, sharing="slice", workers=None)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tasks(supernet: Supernet) -> list[Task]:
    rng = np.random.default_rng(0)
    return [Task(supernet.space.sample(rng), "fp32", accuracy=True, model=False) for _ in range(8)]


@pytest.fixture(scope="module")
def expected(supernet: Supernet, parts: Parts, tasks: list[Task]) -> dict[Task, bytes | None]:
    """What scoring in this process gives."""
    return bits(InlineScoring(supernet, *parts).score(tasks))


def bits(results: Iterator[Scored]) -> dict[Task, bytes | None]:
    """The correct images of each task; each came once."""
    found: dict[Task, bytes | None] = {}
    for scored in results:
        assert not scored.failure
        assert scored.task not in found
        found[scored.task] = scored.correct
    return found


def after_first(results: Iterator[Scored], act: Callable[[], None]) -> Iterator[Scored]:
    """The results; something happens once the first one is there."""
    yield next(results)
    act()
    yield from results


def scorers(node: Any) -> list[int]:
    """The scoring processes of a node."""
    raylet = node.all_processes["raylet"][0].process.pid
    return [pid for pid in descendants(raylet) if b"_Scorer" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def kill_node(cluster: Cluster, node: Any) -> None:
    """All of a node dies at once; by themselves, its actors would outlive its raylet by some seconds."""
    pids = scorers(node)
    cluster.remove_node(node, allow_graceful=False)
    kill(pids)


def test_when_a_node_dies_the_others_do_its_tasks(
    cluster: Cluster, pool: RayPool, tasks: list[Task], expected: dict[Task, bytes | None]
) -> None:
    first, second = add_node(cluster), add_node(cluster)
    assert bits(pool.score(tasks)) == expected
    assert [len(scorers(node)) for node in (first, second)] == [1, 1]
    results = pool.score(tasks)
    assert bits(after_first(results, lambda: kill_node(cluster, second))) == expected
    for _ in range(2):  # in the first one the death may come out only after the living actor has done all
        assert bits(pool.score(tasks)) == expected
    assert len(scorers(first)) == 1
    third = add_node(cluster)  # is taken into use
    assert bits(pool.score(tasks)) == expected
    assert len(scorers(third)) == 1


def test_actors_killed_on_a_living_node_are_replaced(
    cluster: Cluster, pool: RayPool, tasks: list[Task], expected: dict[Task, bytes | None]
) -> None:
    node = add_node(cluster)
    assert bits(after_first(pool.score(tasks), lambda: kill(scorers(node)))) == expected
    kill(scorers(node))  # between two calls
    assert bits(pool.score(tasks)) == expected
    assert len(scorers(node)) == 1


class Fragile:
    """Its process ends when it is asked for a model, as by a network that crashes the runtime."""

    def __init__(self, *arguments: object) -> None:
        pass

    def score_one(self, task: Task) -> Scored:
        if task.model:
            os._exit(1)
        return Scored(task)


def test_a_task_that_kills_its_actors_is_recorded_as_failed(cluster: Cluster, pool: RayPool, tasks: list[Task]) -> None:
    add_node(cluster)
    pool._actor_class = ray.remote(num_cpus=1)(Fragile)
    deadly = replace(tasks[0], model=True)
    failed, *others = list(pool.score([deadly, *tasks[1:]]))
    assert failed.task == deadly
    assert failed.failure.startswith("its worker died 3 times: ")
    assert others == [Scored(task) for task in tasks[1:]]


class Stillborn:
    """Never starts."""

    def __init__(self, *arguments: object) -> None:
        raise ModuleNotFoundError("No module named 'supernets'")


def test_actors_that_cannot_start_end_the_search_and_fail_no_candidate(
    cluster: Cluster, pool: RayPool, tasks: list[Task]
) -> None:
    add_node(cluster)
    pool._actor_class = ray.remote(num_cpus=1)(Stillborn)
    with pytest.raises(
        EvaluationError, match=r"3 scoring actors in a row did not start .*No module named 'supernets'.*nas resume"
    ):
        list(pool.score(tasks))


def test_an_actor_that_finds_no_place_is_given_up(
    cluster: Cluster, pool: RayPool, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_node(cluster)
    monkeypatch.setattr(ray_pool, "_START_S", 0.5)
    monkeypatch.setattr(ray_pool, "_LOOK_S", 0.1)
    pool._actor_class = ray.remote(num_cpus=1, resources={"nowhere": 1})(Fragile)
    with pytest.raises(EvaluationError, match=r"3 scoring actors in a row did not start.*nas resume"):
        list(pool.score(tasks))


def test_without_any_cpu_what_to_do_is_told_and_what_came_is_kept(
    cluster: Cluster, pool: RayPool, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_PATIENCE_S", 3.0)
    node = add_node(cluster)
    results = pool.score(tasks)
    assert next(results).correct is not None
    kill_node(cluster, node)
    with pytest.raises(EvaluationError, match=r"no CPU was free.*ray start --address=HEAD.*nas resume"):
        list(results)
    add_node(cluster)
    assert len(bits(pool.score(tasks))) == len(tasks)
