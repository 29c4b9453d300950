"""A pool of actors over a real cluster: whatever raises, hangs, dies or leaves, each task comes to an end, and once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from nas.engine.evaluation import actors
from nas.engine.evaluation.actors import ActorPool
from tests.errors import raises
from tests.nas.engine.evaluation.pool_workers import Errand, Errands, Overtaken, Stillborn
from tests.ray_cluster import actors_of, add_node, kill, kill_node, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    """A head without CPUs and two nodes of one CPU each, for tests that leave them as they are."""
    with running_cluster(head_cpus=0) as cluster:
        add_node(cluster)
        add_node(cluster)
        yield cluster


@pytest.fixture
def open_pool(two_nodes: Cluster) -> Iterator[Callable[..., ActorPool[Errand, int]]]:
    opened: list[ActorPool[Errand, int]] = []

    def open_(**options: object) -> ActorPool[Errand, int]:
        opened.append(ActorPool(Errands, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_
    for pool in opened:
        pool.close()


Open = Callable[..., ActorPool[Errand, int]]


def failures(pool: ActorPool[Errand, int], errands: list[Errand]) -> dict[int, str]:
    """The failures by number, after a check that each errand came once and that the others have their squares."""
    outcomes = list(pool.run(errands))
    assert sorted(o.task.number for o in outcomes) == sorted(e.number for e in errands)
    assert all(o.result == o.task.number**2 for o in outcomes if not o.failure)
    return {o.task.number: o.failure for o in outcomes if o.failure}


def tries(diary: Path) -> list[str]:
    """The nodes that an errand was tried on, in order."""
    return [name.partition("-")[2] for name in sorted(path.name for path in diary.iterdir())]


def test_short_tasks_wait_at_their_actor_and_are_done_one_after_another(open_pool: Open) -> None:
    pool = open_pool(workers=1)
    assert failures(pool, [Errand(n, seconds=0.02) for n in range(30)]) == {}


def test_a_task_that_another_one_overtakes_on_its_way_is_done_before_it(
    open_pool: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(actors, "PoolActor", Overtaken)
    pool = open_pool(workers=1)
    pool._longest_s = 0.05  # short ones: the actor has two at a time
    diaries = [tmp_path / str(n) for n in range(5)]
    for diary in diaries:
        diary.mkdir()
    outcomes = list(pool.run([Errand(n, seconds=0.02, diary=diary) for n, diary in enumerate(diaries)]))
    assert [(o.task.number, o.result) for o in outcomes] == [(n, n * n) for n in range(5)]
    assert all(0 < o.seconds < 60 for o in outcomes)
    begun = [entry.stat().st_mtime_ns for diary in diaries for entry in diary.iterdir()]
    assert len(begun) == 5
    assert begun == sorted(begun)


def test_who_is_still_at_a_task_of_an_abandoned_run_is_waited_for(open_pool: Open) -> None:
    pool = open_pool(workers=1, time_limit_s=10.0)
    pool._longest_s = 0.05  # short ones: the actor has two at a time
    run = pool.run([Errand(1), Errand(2, seconds=6.0)])
    assert next(run).task.number == 1
    run.close()
    before = set(pool._nodes)
    (after,) = pool.run([Errand(3, seconds=5.0)])
    assert (after.result, after.failure) == (9, "")
    assert set(pool._nodes) == before  # not ended for what the other task took of its time


def test_a_task_that_dies_once_is_done_on_the_other_node(open_pool: Open, tmp_path: Path) -> None:
    unlucky = Errand(0, "die once", diary=tmp_path)
    assert failures(open_pool(), [unlucky, *(Errand(n, seconds=0.05) for n in range(1, 6))]) == {}
    assert len(tries(tmp_path)) == len(set(tries(tmp_path))) == 2


def test_a_task_that_kills_its_workers_fails_with_the_reason_and_the_others_go_on(
    open_pool: Open, tmp_path: Path
) -> None:
    pool = open_pool()
    found = failures(pool, [Errand(0, "die", diary=tmp_path), *map(Errand, range(1, 6))])
    assert list(found) == [0]
    assert found[0].startswith("its worker died (")
    assert found[0].endswith("the last of 3 tries")
    assert len(tries(tmp_path)) == 3
    assert len(set(tries(tmp_path))) == 2
    assert failures(pool, [Errand(7)]) == {}


def test_a_task_that_raises_is_tried_again_and_its_worker_lives_on(open_pool: Open, tmp_path: Path) -> None:
    pool = open_pool()
    assert failures(pool, [Errand(1), Errand(2)]) == {}
    before = set(pool._nodes)
    found = failures(pool, [Errand(0, "raise", diary=tmp_path), Errand(1)])
    assert found == {0: "RuntimeError: no square of 0, the last of 3 tries"}
    assert len(set(tries(tmp_path))) == 2
    assert set(pool._nodes) == before


def test_a_task_that_hangs_is_ended_at_its_limit_and_its_worker_replaced(open_pool: Open) -> None:
    pool = open_pool(time_limit_s=1.0)
    found = failures(pool, [Errand(0, "hang"), *map(Errand, range(1, 6))])
    assert found == {0: "it took longer than the limit of 1 s (`time_limit_s` sets it), the last of 3 tries"}
    assert failures(pool, [Errand(n, seconds=0.2) for n in range(4)]) == {}


def test_without_a_limit_given_what_tasks_took_sets_it(open_pool: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = open_pool()
    assert pool.limit_s == 1800
    assert failures(pool, [Errand(1, seconds=0.2)]) == {}
    assert pool.limit_s == 60
    monkeypatch.setattr(actors, "_MIN_LIMIT_S", 1.0)
    assert 4 < pool.limit_s < 40
    pool._longest_s = 0.05
    assert list(failures(pool, [Errand(0, "hang"), Errand(1)])) == [0]


def test_a_result_that_says_it_is_none_is_tried_again(open_pool: Open, tmp_path: Path) -> None:
    pool = open_pool(failure_of=lambda result: "too large" if result > 20 else "")
    assert failures(pool, [Errand(5, diary=tmp_path), Errand(2)]) == {5: "too large, the last of 3 tries"}
    assert len(tries(tmp_path)) == 3


def test_workers_that_cannot_start_end_the_search_and_fail_no_candidate(two_nodes: Cluster) -> None:
    pool: ActorPool[Errand, int] = ActorPool(Stillborn)
    with raises("evaluation.actors-not-starting", "No module named 'supernets'", "resume"):
        list(pool.run([Errand(1)]))
    pool.close()


def test_a_worker_that_finds_no_place_is_given_up(two_nodes: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "_START_S", 0.5)
    monkeypatch.setattr(actors, "_LOOK_S", 0.1)
    pool: ActorPool[Errand, int] = ActorPool(Errands)
    pool._actor_class = pool._actor_class.options(resources={"nowhere": 1})
    with raises("evaluation.actors-not-starting", "resume"):
        list(pool.run([Errand(1)]))
    pool.close()


def test_cpus_that_are_all_taken_are_told_before_they_are_waited_for(
    two_nodes: Cluster, open_pool: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_pool()
    assert failures(other, [Errand(n, seconds=0.5) for n in range(4)]) == {}  # its two actors stay
    told: list[str] = []
    monkeypatch.setattr(actors, "_PATIENCE_S", 2.0)
    pool = open_pool(note=told.append)
    with raises("cluster.no-cpu", "for 2 s", "all 2 CPUs", "ray start"):
        list(pool.run([Errand(1)]))
    assert [note.partition(":")[0] for note in told] == [
        "all 2 CPUs of the Ray cluster are taken; waiting up to 2 s for one"
    ]
    other.close()
    monkeypatch.setattr(actors, "_PATIENCE_S", 60.0)
    assert failures(pool, [Errand(1)]) == {}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Its head offers no CPU; tests add the nodes that do."""
    if ray.is_initialized():
        ray.shutdown()
    with running_cluster(head_cpus=0) as made:
        yield made


def test_nodes_and_workers_killed_at_random_lose_no_task_and_do_none_twice(cluster: Cluster) -> None:
    rng = np.random.default_rng(5)
    nodes = [add_node(cluster) for _ in range(2)]
    strikes = dict(zip(np.cumsum(rng.integers(5, 20, size=4)).tolist(), ["node", "worker"] * 2, strict=True))
    pool: ActorPool[Errand, int] = ActorPool(Errands)
    errands = [Errand(n, seconds=0.1) for n in range(80)]
    outcomes = []
    for outcome in pool.run(errands):
        outcomes.append(outcome)
        kind = strikes.pop(len(outcomes), None)
        if kind is None:
            continue
        time.sleep(float(rng.uniform(0, 0.1)))  # at any moment of what the others do
        victim = int(rng.integers(len(nodes)))
        if kind == "worker":
            kill(actors_of(nodes[victim]))
        else:
            kill_node(cluster, nodes.pop(victim))
            nodes.append(cluster.add_node(num_cpus=1, wait=False))
    pool.close()
    assert not strikes
    assert sorted(o.task.number for o in outcomes) == list(range(80))
    failed = [o for o in outcomes if o.failure]  # only who was hit three times
    assert all("its worker died" in o.failure for o in failed)
    assert len(failed) <= 2
