"""Searches on a table are killed with SIGKILL at random moments; resumed, each ends with the uninterrupted front."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psycopg
import pytest

from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.database import Database
from nas.engine.store.memory import MemoryStore
from nas.engine.store.postgres import new_schema
from nas.engine.store.sql import SqlStore
from nas.search.problem.objectives import Evaluation, Measurement, minimised
from nas.search.problem.pareto import non_dominated
from tests.nas.table_search import OBJECTIVES, drive, run_search
from tests.postgres_server import Server

KILLS = int(os.environ.get("NAS_KILLS", "40"))
"""On SQLite; 300 with ``NAS_KILLS=300 make test-slow``."""
SHARES = {
    "random": 60, "nsga2": 70, "age-moea": 30, "moead": 30, "regularized-evolution": 50, "local-search": 40, "guided": 20,
}  # fmt: skip
"""Of 300, by algorithm."""
EVALUATIONS = {"guided": 48}
"""Where not 120."""
_A_RUN = 10
"""Kills of one run at most; then it may end."""
_PATIENCE_S = 120


def front_of(store: RunStore) -> set[str]:
    measurements: dict[str, dict[str, Measurement]] = {}
    for m in store.measurements():
        name = m.request.metric if m.request.profile is None else f"{m.request.metric}@{m.request.profile}"
        measurements.setdefault(m.request.architecture.key, {})[name] = m
    asked = [a for step in store.asks() for a in step]
    evaluations = [Evaluation(a, measurements[a.key]) for a in asked]
    return {asked[i].key for i in np.flatnonzero(non_dominated(minimised(evaluations, OBJECTIVES)))}


def uninterrupted(algorithm: str, seed: int) -> MemoryStore:
    store = MemoryStore()
    run_search(store, algorithm, seed, EVALUATIONS.get(algorithm, 120))
    return store


def kill_and_resume(
    place: Path | Database, counter: Path, algorithm: str, seed: int, rng: np.random.Generator, kills: int,
    kill: Callable[[int], None] = lambda pid: os.kill(pid, signal.SIGKILL),
) -> int:  # fmt: skip
    """Drives one run to its end through up to `kills` kills; checks after each that nothing counted was lost."""
    # A server of clean processes with the imports done: a driver starts in milliseconds, so kills fall anywhere.
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.nas.table_search", "nas.search.evolution.search", "nas.search.guided.search"]
    )
    arguments = (place, algorithm, seed, EVALUATIONS.get(algorithm, 120), 0.002, counter)
    done, deadline = 0, time.monotonic() + 2 * _PATIENCE_S
    while time.monotonic() < deadline:
        driver = context.Process(target=drive, args=arguments)
        driver.start()
        driver.join(float(rng.uniform(0.02, 0.5)) if done < kills else _PATIENCE_S)
        killed = driver.is_alive()
        if killed:
            assert driver.pid is not None
            with contextlib.suppress(ProcessLookupError):  # it may end in this very moment
                kill(driver.pid)
            driver.join()
        if killed and driver.exitcode:
            done += 1
            check_nothing_counted_is_lost(place, counter)
        elif driver.exitcode == 0:
            return done
    raise AssertionError(f"the run did not end; {done} kills")


def check_nothing_counted_is_lost(place: Path | Database, counter: Path) -> None:
    lines = counter.read_text().splitlines() if counter.exists() else []
    counted = max((int(line) for line in lines if line), default=0)
    if not counted:
        return
    store = SqlStore.open(place, create=False, driver=False)
    rows = [m.request for m in store.measurements()]
    store.close()
    assert len(rows) == len(set(rows)), "an evaluation was stored twice"
    whole = [a for a in {r.architecture for r in rows} if sum(r.architecture == a for r in rows) == len(OBJECTIVES)]
    assert len(whole) >= counted


@pytest.mark.parametrize("algorithm", ["random", "nsga2", "guided"])
def test_a_killed_search_ends_with_the_uninterrupted_front(algorithm: str, tmp_path: Path) -> None:
    check_kills(tmp_path, algorithm, total=3)


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path: Path) -> None:
    totals = {name: math.ceil(KILLS * share / 300) for name, share in SHARES.items()}
    done = {name: check_kills(tmp_path / name, name, total=total) for name, total in totals.items()}
    assert sum(done.values()) >= KILLS


def check_kills(folder: Path, algorithm: str, *, total: int) -> int:
    rng = np.random.default_rng(11)
    done, seed, started = 0, 0, time.monotonic()
    while done < total and time.monotonic() - started < 5 * _PATIENCE_S:
        run = folder / str(seed)
        run.mkdir(parents=True)
        done += kill_and_resume(run / "run.db", run / "counted", algorithm, seed, rng, min(_A_RUN, total - done))
        check_uninterrupted(run / "run.db", algorithm, seed)
        seed += 1
    assert done >= total
    return done


def check_uninterrupted(place: Path | Database, algorithm: str, seed: int) -> None:
    """Raises unless a run is finished and as it would be if nobody had been killed."""
    expected = uninterrupted(algorithm, seed)
    store = SqlStore.open(place, create=False, driver=False)
    assert store.status() is RunStatus.FINISHED
    assert store.asks() == expected.asks()
    assert front_of(store) == front_of(expected)
    assert not [event for event in store.events() if event.kind == "replay-differs"]
    store.close()


@pytest.mark.slow
def test_kills_of_drivers_and_of_the_store_itself_in_postgresql(postgres: Server, tmp_path: Path) -> None:
    """The server's process that serves the driver dies as well; the server then ends all the others, and recovers."""
    rng = np.random.default_rng(4)
    struck = {"driver": 0, "store": 0}

    def strike(driver: int) -> None:
        until = time.monotonic() + 10  # on a busy machine it takes so long until a driver is served
        while struck["driver"] > struck["store"] and time.monotonic() < until:
            if kill_backend(postgres):
                struck["store"] += 1
                return
            time.sleep(0.02)
        os.kill(driver, signal.SIGKILL)
        struck["driver"] += 1

    for seed in range(8):
        place = new_schema(postgres.url, "kills")
        kill_and_resume(place, tmp_path / str(seed), "nsga2", seed, rng, 6, strike)
        check_uninterrupted(place, "nsga2", seed)
        if min(struck.values()) >= 4:
            break
    assert min(struck.values()) >= 4


def kill_backend(server: Server) -> bool:
    """SIGKILL to the process of the server that serves a driver, if one does; then waits until the server is back."""
    with server.connect() as connection:
        rows = connection.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory'").fetchall()
    for (pid,) in rows:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE_S
    pids = [pid for (pid,) in rows]
    while rows and time.monotonic() < deadline:
        # Until it sees the death it still takes connections, to end them a moment later.
        with contextlib.suppress(psycopg.OperationalError), server.connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)", (pids,)).fetchall():
                break
        time.sleep(0.1)
    return bool(rows)
