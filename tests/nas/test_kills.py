"""Searches on a table are killed with SIGKILL at random moments; resumed, each ends with the uninterrupted front."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from nas.objectives import Evaluation, Measurement, minimised
from nas.pareto import non_dominated
from nas.store.base import RunStatus, RunStore
from nas.store.memory import MemoryStore
from nas.store.sql import SqlStore
from tests.nas.table_search import OBJECTIVES, drive, run_search

KILLS = 100
EVALUATIONS = {"random": 120, "nsga2": 120, "guided": 48}
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
    run_search(store, algorithm, seed, EVALUATIONS[algorithm])
    return store


def kill_and_resume(folder: Path, algorithm: str, seed: int, rng: np.random.Generator, kills: int) -> int:
    """Drives one run to its end through up to `kills` kills; checks after each that nothing counted was lost."""
    # A server of clean processes with the imports done: a driver starts in milliseconds, so kills fall anywhere.
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.nas.table_search"])
    database, counter = folder / "run.db", folder / "counted"
    done = 0
    while True:
        driver = context.Process(target=drive, args=(database, algorithm, seed, EVALUATIONS[algorithm], 0.002, counter))
        driver.start()
        if done < kills:
            driver.join(float(rng.uniform(0.02, 0.9)))
        else:
            driver.join(_PATIENCE_S)
        if driver.is_alive():
            assert driver.pid is not None
            with contextlib.suppress(ProcessLookupError):  # it may end in this very moment
                os.kill(driver.pid, signal.SIGKILL)
            driver.join()
        if driver.exitcode == -signal.SIGKILL:
            done += 1
            check_nothing_counted_is_lost(database, counter)
            continue
        assert driver.exitcode == 0
        return done


def check_nothing_counted_is_lost(database: Path, counter: Path) -> None:
    lines = counter.read_text().splitlines() if counter.exists() else []
    counted = max((int(line) for line in lines if line), default=0)
    if not counted:
        return
    store = SqlStore.open(database, create=False, driver=False)
    rows = [m.request for m in store.measurements()]
    store.close()
    assert len(rows) == len(set(rows)), "an evaluation was stored twice"
    whole = [a for a in {r.architecture for r in rows} if sum(r.architecture == a for r in rows) == len(OBJECTIVES)]
    assert len(whole) >= counted


@pytest.mark.parametrize("algorithm", ["random", "nsga2", "guided"])
def test_a_killed_search_ends_with_the_uninterrupted_front(algorithm: str, tmp_path: Path) -> None:
    _check_kills(tmp_path, algorithm, total=3)


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path) -> None:
    total = sum(
        _check_kills(tmp_path / name, name, total=share)
        for name, share in (("random", 30), ("nsga2", 50), ("guided", 20))
    )
    assert total >= KILLS


def _check_kills(folder: Path, algorithm: str, *, total: int) -> int:
    rng = np.random.default_rng(11)
    done, seed, started = 0, 0, time.monotonic()
    while done < total and time.monotonic() - started < 5 * _PATIENCE_S:
        run = folder / str(seed)
        run.mkdir(parents=True)
        done += kill_and_resume(run, algorithm, seed, rng, min(3, total - done))
        expected = uninterrupted(algorithm, seed)
        store = SqlStore.open(run / "run.db", create=False, driver=False)
        assert store.status() is RunStatus.FINISHED
        assert store.asks() == expected.asks()
        assert front_of(store) == front_of(expected)
        assert not [event for event in store.events() if event.kind == "replay-differs"]
        store.close()
        seed += 1
    assert done >= total
    return done
