"""The index of runs: snapshots are current, though a store is read only when it has changed."""

from __future__ import annotations

import gc
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hardware_profiles.waiting import time_of_day
from nas.engine import run_listing
from nas.engine.run_listing import RunSnapshot, run_rows
from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.postgres import new_schema
from nas.engine.store.sql import SqlStore
from nas.errors import StoreError, UnknownNameError
from nas.search.problem.budget import Budget
from nas.search.problem.evaluation_counts import EvaluationCounts
from nas.search.problem.objectives import Constraint, Measurement, Objective, Request, Status
from nas.service import stamped_cache
from nas.service.stamped_cache import ChangeStamp
from nas.service.views import run_index as module
from nas.service.views.run_index import RunIndex
from supernets.space import Architecture
from tests.contracts.run_facts import search_facts
from tests.errors import raises
from tests.postgres_server import binaries, running_server


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    return RunsFolder(tmp_path / "runs")


@pytest.fixture
def run(runs: RunsFolder) -> RunFolder:
    return runs.create("tiny", "job")


@pytest.fixture
def store(run: RunFolder) -> Iterator[SqlStore]:
    opened = open_store(run, create=True, driver=True)
    yield opened
    opened.close()


def add(store: RunStore, number: int, metric: str) -> None:
    store.add(Measurement(Request(Architecture((number,)), metric), Status.OK, 1.0, 0.0))


def test_every_commit_is_seen_at_once(runs: RunsFolder, store: SqlStore) -> None:
    """By a reader that asks between any two of them, all well within one tick of the file system's clock."""
    index = RunIndex(runs)
    assert index.snapshot("tiny-1") == RunSnapshot(RunStatus.QUEUED, True, 0)
    store.describe(search_facts(objectives=["accuracy", "macs"], name="tiny", epochs=2), budget=Budget(9))
    store.set_status(RunStatus.RUNNING)
    for epoch in (1, 2):
        store.update_state(epoch=epoch)
        assert (index.snapshot("tiny-1").epoch, index.snapshot("tiny-1").progress) == (epoch, epoch)
    for number in range(50):
        add(store, number, "accuracy")
        assert (index.snapshot("tiny-1").evaluations, index.snapshot("tiny-1").progress) == (number, 2 * number + 3)
        add(store, number, "macs")
        assert (index.snapshot("tiny-1").evaluations, index.snapshot("tiny-1").progress) == (number + 1, 2 * number + 4)
    store.set_status(RunStatus.FINISHED, reason="done")
    found = index.snapshot("tiny-1")
    times = [time for _, time in store.statuses()]
    assert found == RunSnapshot(
        RunStatus.FINISHED, True, 102, reason="done", begun=True, name="tiny", started=times[0], ended=times[1], evaluations=50,
        counts=EvaluationCounts(measured=50), evaluations_wanted=9, epoch=2, epochs=2,
    )  # fmt: skip
    assert not found.open


def test_an_evaluation_needs_the_metrics_of_constraints_too(runs: RunsFolder, store: SqlStore) -> None:
    limits = tuple(Constraint(Objective.parse(metric, []), minimum=0.5) for metric in ("accuracy", "macs"))
    store.describe(search_facts(constraints=limits))
    add(store, 1, "accuracy")
    assert RunIndex(runs).snapshot("tiny-1").evaluations == 0
    add(store, 1, "macs")
    assert RunIndex(runs).snapshot("tiny-1").evaluations == 1
    assert run_rows(runs)[0].done == 1


def test_a_database_is_read_again_only_once_it_has_changed(
    runs: RunsFolder, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def counted(store: RunStore, *, has_driver: bool) -> RunSnapshot:
        reads.append(has_driver)
        return of_store(store, has_driver=has_driver)

    of_store = module.snapshot_of
    monkeypatch.setattr(module, "snapshot_of", counted)
    store.set_status(RunStatus.RUNNING)
    later = 10.0  # so long after the last change that any other would give another stamp
    clock = [store.statuses()[-1][1] + later]
    index = RunIndex(runs, clock=lambda: clock[0])
    for _ in range(3):
        assert index.snapshot("tiny-1").status is RunStatus.RUNNING
    assert len(reads) == 1
    store.set_status(RunStatus.CANCELLED)
    assert index.snapshot("tiny-1").status is RunStatus.CANCELLED
    assert len(reads) == 2
    store.close()  # it is no longer held, which changes no file; and its files are merged
    found = index.snapshot("tiny-1")
    assert (found.status, found.has_driver) == (RunStatus.CANCELLED, False)
    for _ in range(3):
        assert index.snapshot("tiny-1") == found
    assert len(reads) == 3


def test_a_change_within_the_tick_of_the_last_one_is_seen(
    runs: RunsFolder, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two transactions may leave the same size and, in one tick, the same time: what is that fresh is read anew."""
    monkeypatch.setattr(stamped_cache, "file_stamp", lambda path: (1, 4096, 1_000_000_000))
    clock = [1.05]
    index = RunIndex(runs, clock=lambda: clock[0])
    assert index.snapshot("tiny-1").status is RunStatus.QUEUED
    store.set_status(RunStatus.RUNNING)
    assert index.snapshot("tiny-1").status is RunStatus.RUNNING
    clock[0] = 1.2
    assert index.snapshot("tiny-1").status is RunStatus.RUNNING
    store.set_status(RunStatus.FINISHED)  # a real file's stamp would change: this shows that the stamp is looked at
    assert index.snapshot("tiny-1").status is RunStatus.RUNNING


def test_the_wait_of_a_live_driver_is_the_reason_of_its_run(
    runs: RunsFolder, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_listing.time, "time", lambda: 1012.0)
    index = RunIndex(runs)
    store.set_status(RunStatus.RUNNING)
    assert index.snapshot("tiny-1").reason == ""
    store.update_state(waiting="waits for pi6 since 12:03", waiting_since=1000.0)
    assert index.snapshot("tiny-1").reason == "waits for pi6 since 12:03 (10 s so far)"
    store.close()  # its driver was killed while it waited
    assert index.snapshot("tiny-1").reason == ""


def test_stores_of_ended_runs_are_closed(runs: RunsFolder, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number grows, and an engine takes more memory than a snapshot."""
    kept: weakref.WeakSet[SqlStore] = weakref.WeakSet()

    open_ = SqlStore.open

    def opened(*args: Any, **how: Any) -> SqlStore:
        kept.add(made := open_(*args, **how))
        return made

    monkeypatch.setattr(SqlStore, "open", opened)
    index = RunIndex(runs)
    store.set_status(RunStatus.RUNNING)
    for _ in range(2):
        index.snapshot("tiny-1")
    assert len(kept) == 1
    store.set_status(RunStatus.FINISHED, reason="done")
    store.close()
    for _ in range(2):
        assert (index.snapshot("tiny-1").reason, index.snapshot("tiny-1").has_driver) == ("done", False)
    gc.collect()
    assert len(kept) == 0


def test_a_database_server_that_does_not_answer_is_not_asked_again_for_a_while(runs: RunsFolder) -> None:
    asked = [0]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    listening.accept()[0].close()
                    asked[0] += 1

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"postgresql+psycopg://nobody@127.0.0.1:{listening.getsockname()[1]}/none"
        for _ in range(3):
            runs.create("away", "job", store={"url": url, "schema": "nas_away"})
        clock = [1000.0]
        index = RunIndex(runs, clock=lambda: clock[0])
        rounds = []
        for now in (1000.0, 1029.0, 1031.0, 1060.0):
            clock[0], before = now, asked[0]
            for run in ("away-1", "away-2", "away-3"):
                with raises("store.unreachable", url.split("/")[2]):
                    index.snapshot(run)
            rounds.append(asked[0] > before)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert rounds == [True, False, True, False]
    assert asked[0] == 4  # once whether it is driven, and once where it stands


def test_snapshots_of_remote_databases_expire_also_where_the_clock_was_set_back(
    runs: RunsFolder, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChangeStamp, "read", lambda database: None)
    clock = [1000.0]
    index = RunIndex(runs, clock=lambda: clock[0])
    found = []
    for now, epoch in ((1000.0, 1), (1000.9, 2), (1001.1, 3), (500.0, 4)):
        clock[0] = now
        store.update_state(epoch=epoch)
        found.append(index.snapshot("tiny-1").epoch)
    assert found == [1, 1, 3, 4]


def test_an_unknown_and_a_damaged_run_are_errors(runs: RunsFolder, run: RunFolder) -> None:
    index = RunIndex(runs)
    with pytest.raises(UnknownNameError):
        index.snapshot("tiny-1")  # a folder alone
    run.database.write_bytes(b"no database" * 500)
    with pytest.raises(StoreError, match=r"run\.db"):
        index.snapshot("tiny-1")
    run.database.unlink()
    open_store(run, create=True, driver=True).close()
    assert index.snapshot("tiny-1") == RunSnapshot(RunStatus.QUEUED, False, 0)


@pytest.mark.skipif(binaries() is None, reason="needs the programs of a PostgreSQL server")
@pytest.mark.slow
def test_a_run_is_shown_as_it_was_while_its_database_server_is_away(runs: RunsFolder) -> None:
    with running_server() as server:
        place = new_schema(server.url, "remote")
        folder = runs.create("remote", "job", store={"url": server.url, "schema": str(place.schema)})
        store = open_store(folder, create=True, driver=True)
        store.set_status(RunStatus.RUNNING)
        clock = [1000.0]
        index = RunIndex(runs, clock=lambda: clock[0])
        assert not index.last_snapshot(folder.id).outdated
        server.stop()
        clock[0] += 5
        for _ in range(2):
            snapshot = index.last_snapshot(folder.id)
            assert (snapshot.status, snapshot.has_driver, snapshot.outdated) == (RunStatus.RUNNING, True, True)
            assert snapshot.reason == f"waits for the database server since {time_of_day(1005.0)}"
            clock[0] += 40
        with raises("store.unreachable"):
            index.snapshot(folder.id)  # what the dispatcher acts on
        with raises("store.unreachable"):
            RunIndex(runs).last_snapshot(folder.id)  # was never read
        server.start()
        clock[0] += 40
        assert (index.last_snapshot(folder.id).reason, index.last_snapshot(folder.id).outdated) == ("", False)
        store.close()
