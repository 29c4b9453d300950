"""The cache of values computed from runs, and when they are computed again."""

from __future__ import annotations

import threading

import pytest

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import open_store
from nas.errors import UnknownNameError
from nas.service.stamped_cache import StampedCache
from tests.nas.service.made_runs import trained

LATER = 1e12
"""A clock that is so far on that every file was written long ago."""


def test_a_value_is_made_again_when_its_run_changes(runs: RunsFolder) -> None:
    folder = trained(runs)
    made: list[str] = []

    def make(run: RunFolder, key: str | None) -> int:
        made.append(f"{run.id} {key}")
        return len(made)

    kept = StampedCache(make, max_weight=10, clock=lambda: LATER)
    assert [kept.get(folder), kept.get(folder), kept.get(folder, "a")] == [1, 1, 2]
    store = open_store(folder, driver=True)
    store.set_status(RunStatus.CANCELLED)
    assert kept.get(folder) == 3  # while the driver has it open
    store.close()
    assert kept.get(folder) == 4  # closing moves what was appended into the database
    assert kept.get(folder) == 4


def test_a_value_is_given_for_some_time_although_its_run_changes(runs: RunsFolder) -> None:
    folder = trained(runs)
    made: list[float] = []
    clock = [LATER]
    kept = StampedCache(lambda run, key: made.append(clock[0]), max_weight=10, rest_s=10.0, clock=lambda: clock[0])
    kept.get(folder)
    store = open_store(folder, driver=True)
    store.set_status(RunStatus.CANCELLED)
    store.close()
    for clock[0] in (LATER + 9, LATER + 11, LATER + 25):
        kept.get(folder)
    assert made == [LATER, LATER + 11]  # it has not changed since


def test_a_run_that_may_change_without_its_stamp_is_read_again(runs: RunsFolder) -> None:
    folder = trained(runs)
    made: list[int] = []
    written = folder.database.stat().st_mtime
    soon = StampedCache(lambda run, key: made.append(1), max_weight=10, clock=lambda: written + 0.01)
    soon.get(folder)
    soon.get(folder)
    assert len(made) == 2


def test_values_of_remote_databases_expire_also_where_the_clock_was_set_back(runs: RunsFolder) -> None:
    folder = runs.create(
        "elsewhere", "job", store={"url": "postgresql+psycopg://nobody@nowhere/none", "schema": "none"}
    )
    made: list[float] = []
    clock = [1000.0]
    kept = StampedCache(lambda run, key: made.append(clock[0]), max_weight=10, clock=lambda: clock[0])
    for now in (1000.0, 1002.9, 1003.1, 500.0, 502.9, 503.1):
        clock[0] = now
        kept.get(folder)
    assert made == [1000.0, 1003.1, 500.0, 503.1]


def test_failed_computations_leave_nothing_in_the_cache(runs: RunsFolder) -> None:
    folder = trained(runs)

    def make(run: RunFolder, key: str | None) -> str:
        if key is not None:
            raise UnknownNameError("objective", key, [])
        return run.id

    kept = StampedCache(make, max_weight=10)
    kept.get(folder)
    for n in range(100):
        with pytest.raises(UnknownNameError):
            kept.get(folder, f"board-{n}")
    assert len(kept._making) == 1


def test_the_least_recently_used_value_is_evicted_first(runs: RunsFolder) -> None:
    folders = [trained(runs) for _ in range(3)]
    made: list[str] = []

    def make(run: RunFolder, key: str | None) -> str:
        made.append(run.id)
        return run.id

    kept = StampedCache(make, max_weight=4, weigh=lambda value: 2, clock=lambda: LATER)
    for i in (0, 1, 0, 2, 0, 1):
        kept.get(folders[i])
    assert made == [folders[i].id for i in (0, 1, 2, 1)]
    alone = StampedCache(make, max_weight=1, weigh=lambda value: 2, clock=lambda: LATER)
    made.clear()
    for i in (0, 0, 1, 0):
        alone.get(folders[i])
    assert made == [folders[i].id for i in (0, 1, 0)]


def test_concurrent_calls_share_one_computation(runs: RunsFolder) -> None:
    run = trained(runs)
    n = 8
    asked, first = threading.Barrier(n), threading.Event()
    made: list[int] = []

    def make(run: RunFolder, key: str | None) -> object:
        made.append(1)
        first.wait(10)  # until all others ask, too
        return object()

    kept = StampedCache(make, max_weight=10, clock=lambda: LATER)
    found: list[object] = []

    def ask() -> None:
        asked.wait()
        found.append(kept.get(run))

    threads = [threading.Thread(target=ask) for _ in range(n)]
    for thread in threads:
        thread.start()
    while not made:
        pass
    first.set()
    for thread in threads:
        thread.join()
    assert len(found) == n
    assert len(set(map(id, found))) == len(made) == 1
