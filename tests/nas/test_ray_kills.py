"""A search through Ray whose driver and actors are killed at random ends with the front of one that nobody killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from ray.cluster_utils import Cluster

from nas.engine.evaluation.cluster import start_ray, stop_ray
from nas.engine.search_loop import search
from nas.engine.search_progress import SearchProgress
from nas.engine.store.base import RunStatus
from nas.engine.store.sql import SqlStore
from nas.runs.bench.table import Table
from nas.search.base import SearchProblem
from nas.search.problem.budget import Budget
from nas.search.registry import make_algorithm
from tests.nas.pooled_table import PooledTable
from tests.nas.table_search import OBJECTIVES, TABLE
from tests.nas.test_kills import check_nothing_counted_is_lost, check_uninterrupted
from tests.ray_cluster import actors_of, kill, running_cluster

pytestmark = pytest.mark.ray

KILLS = 10
_PATIENCE_S = 300


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster(head_cpus=2) as made:
        yield made


def drive(database: Path, address: str, counter: Path) -> None:
    """A driver's process: joins the cluster, starts the run or resumes what is there, and marks it finished."""
    start_ray(address)
    store = SqlStore.open(database, create=True, driver=True)
    descriptor = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store.set_status(RunStatus.RUNNING)
    table = Table.load(TABLE)

    def count(progress: SearchProgress) -> None:
        os.write(descriptor, f"{progress.done}\n".encode())

    evaluator = PooledTable(0.1)
    algorithm = make_algorithm("nsga2", SearchProblem(table.space, OBJECTIVES, 0))
    search(table.space, OBJECTIVES, algorithm, evaluator, store, Budget(120), batch=8, on_progress=count)
    store.set_status(RunStatus.FINISHED)
    store.close()
    evaluator.close()
    stop_ray()


@pytest.mark.slow
def test_kills_through_ray(cluster: Cluster, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.nas.test_ray_kills", "nas.search.evolution.search"])
    # In pairs: an engine that loses three actors in a row before they have started gives up, as it should.
    victims = [str(victim) for _ in range(KILLS // 2) for victim in rng.permutation(["driver", "actor"])]
    run, started = 0, time.monotonic()
    while victims:
        assert time.monotonic() < started + _PATIENCE_S, victims
        folder = tmp_path / str(run)
        folder.mkdir()
        database, counter = folder / "run.db", folder / "counted"
        while True:
            driver = context.Process(target=drive, args=(database, cluster.address, counter))
            driver.start()
            while driver.is_alive() and victims:
                if rng.random() < 0.8:  # else a driver may die while it joins the cluster, or makes its run
                    while driver.is_alive() and not actors_of(cluster.head_node):
                        driver.join(0.05)
                driver.join(float(rng.uniform(0.02, 0.8)))
                actors = actors_of(cluster.head_node)
                if victims[-1] == "actor" and actors:
                    kill([int(rng.choice(actors))])
                    victims.pop()
                elif victims[-1] == "driver" and driver.is_alive():
                    assert driver.pid is not None
                    with contextlib.suppress(ProcessLookupError):  # it may end in this very moment
                        os.kill(driver.pid, signal.SIGKILL)
                    driver.join()
            driver.join(_PATIENCE_S)
            if driver.exitcode == 0:
                break
            assert driver.exitcode == -signal.SIGKILL
            victims.pop()
            check_nothing_counted_is_lost(database, counter)
        check_uninterrupted(database, "nsga2", 0)
        run += 1
