"""The store in a database keeps the contract, its rows over reopening, and its lease."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from nas.engine.store import tables
from nas.engine.store.base import Event, Fit, RunStatus
from nas.engine.store.lease import Holder
from nas.engine.store.run_state import RunState
from nas.engine.store.sql import SqlStore
from nas.errors import StoreError
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Fidelity
from tests.contracts.run_facts import search_facts
from tests.contracts.store import NOW, DatabaseContract, architecture, measured, request
from tests.errors import raises


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "100% run?#1" / "run.db"  # characters that mean something in a URI


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    path.parent.mkdir()
    opened = SqlStore.open(path, create=True, driver=True, clock=lambda: NOW)
    yield opened
    opened.close()


FACTS = search_facts(objectives=["accuracy", "macs"], name="filled")


def fill(store: SqlStore) -> None:
    """Writes a row of every kind."""
    store.set_status(RunStatus.RUNNING, reason="started")
    store.describe(FACTS, budget=Budget(30), epoch=2)
    store.record_ask(0, [architecture(1)])
    store.add(measured(1, samples=b"raw"))
    store.record_fit(Fit(0, "accuracy", {"mape": 0.1}))
    store.record_event("retry", {"n": 1})


def check_filled(store: SqlStore) -> None:
    assert store.status() is RunStatus.RUNNING
    assert store.reason() == "started"
    assert store.facts() == FACTS
    assert store.state() == RunState(epoch=2, budget=Budget(30))
    assert (store.asks(), store.told()) == ([[architecture(1)]], [None])
    assert store.measurements(Fidelity.SEARCH) == [measured(1)]
    assert store.samples(request(1)) == b"raw"
    assert store.fits() == [Fit(0, "accuracy", {"mape": 0.1})]
    assert store.events() == [Event("retry", {"n": 1}, NOW)]


def by_hand(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


class TestSqlStore(DatabaseContract):
    @pytest.fixture
    def store(self, store: SqlStore) -> SqlStore:
        return store

    @pytest.fixture
    def reopen(self, path: Path) -> Callable[[], SqlStore]:
        return lambda: SqlStore.open(path, create=False, driver=True)


class TestReopening:
    def test_rows_outlive_the_store(self, store: SqlStore, path: Path) -> None:
        fill(store)
        store.close()
        for create in (False, True):
            again = SqlStore.open(path, create=create, driver=True, clock=lambda: NOW)
            check_filled(again)
            again.close()

    def test_a_reader_sees_each_write_at_once_and_cannot_write(self, store: SqlStore, path: Path) -> None:
        reader = SqlStore.open(path, create=False, driver=False)
        fill(store)
        check_filled(reader)
        with raises("store.read-only"):
            reader.add(measured(2))
        store.update_state(epoch=3)
        assert reader.state().epoch == 3
        reader.close()

    def test_threads_of_the_driver_write_side_by_side(self, store: SqlStore) -> None:
        def write(start: int) -> None:
            for number in range(start, start + 10):
                store.add(measured(number))

        threads = [threading.Thread(target=write, args=(start,)) for start in (0, 10, 20, 30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {m.request for m in store.measurements()} == {request(n) for n in range(40)}

    def test_an_interrupted_making_is_finished_by_the_next(self, tmp_path: Path) -> None:
        path = tmp_path / "run.db"
        path.touch()
        with raises("store.no-run"):
            SqlStore.open(path, create=False, driver=True)
        made = SqlStore.open(path, create=True, driver=True)
        made.add(measured(1))
        made.close()


class TestLease:
    def test_a_second_driver_is_refused_by_name(self, store: SqlStore, path: Path) -> None:
        holder = Holder.this()
        with raises("run.held", f"process {holder.pid} on {holder.host}"):
            SqlStore.open(path, create=False, driver=True)
        store.add(measured(1))

    def test_closing_frees_it(self, store: SqlStore, path: Path) -> None:
        store.close()
        SqlStore.open(path, create=False, driver=True).close()

    def test_a_failed_opening_frees_it(self, store: SqlStore, path: Path) -> None:
        store.close()
        by_hand(path, "UPDATE schema_version SET version = 99")
        with raises("store.unknown-version", "99"):
            SqlStore.open(path, create=False, driver=True)
        by_hand(path, "UPDATE schema_version SET version = ?", tables.SCHEMA.latest)
        SqlStore.open(path, create=False, driver=True).close()

    def test_a_driver_given_up_for_dead_writes_no_more(self, store: SqlStore, path: Path) -> None:
        fill(store)
        path.with_name("run.db.lock").unlink()  # as on another machine, where the lock is not seen
        successor = SqlStore.open(path, create=False, driver=True, clock=lambda: NOW)
        writes: list[Callable[[], None]] = [
            lambda: store.set_status(RunStatus.FINISHED),
            lambda: store.update_state(epoch=3),
            lambda: store.record_ask(1, [architecture(2)]),
            lambda: store.add(measured(2)),
            lambda: store.record_fit(Fit(1, "accuracy", {})),
            lambda: store.record_event("late", {}),
        ]
        for write in writes:
            with raises("run.taken-over", "process"):
                write()
        check_filled(store)  # it may still read
        successor.add(measured(3))
        successor.close()

    def test_creating_needs_the_lease(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="driver=True"):
            SqlStore.open(tmp_path / "run.db", create=True, driver=False)


@pytest.mark.parametrize("driver", [False, True])
class TestBadDatabase:
    def test_a_missing_file(self, tmp_path: Path, driver: bool) -> None:
        with raises("store.missing", "run.db"):
            SqlStore.open(tmp_path / "run.db", create=False, driver=driver)
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_folder(self, tmp_path: Path, driver: bool) -> None:
        with raises("store.missing", "folder"):
            SqlStore.open(tmp_path / "none" / "run.db", create=driver, driver=driver)

    def test_a_folder_in_its_place(self, tmp_path: Path, driver: bool) -> None:
        with pytest.raises(StoreError, match="no regular file"):
            SqlStore.open(tmp_path, create=False, driver=driver)

    def test_a_file_that_is_no_database(self, tmp_path: Path, driver: bool) -> None:
        path = tmp_path / "run.db"
        path.write_bytes(b"not a database, " * 1000)
        with pytest.raises(StoreError, match=r"no database of a run .*; restore"):
            SqlStore.open(path, create=False, driver=driver)
        assert path.read_bytes() == b"not a database, " * 1000

    def test_another_programs_database(self, tmp_path: Path, driver: bool) -> None:
        path = tmp_path / "run.db"
        by_hand(path, "CREATE TABLE studies (id INTEGER)")
        with raises("store.no-run"):
            SqlStore.open(path, create=driver, driver=driver)

    def test_another_version(self, store: SqlStore, path: Path, driver: bool) -> None:
        store.close()
        by_hand(path, "UPDATE schema_version SET version = 99")
        with raises("store.unknown-version", "version 99"):
            SqlStore.open(path, create=False, driver=driver)

    def test_a_truncated_file(self, store: SqlStore, path: Path, driver: bool) -> None:
        for number in range(50):
            store.add(measured(number, samples=bytes(2000)))
        store.close()
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(StoreError, match="damaged"):
            SqlStore.open(path, create=False, driver=driver).measurements()

    def test_overwritten_pages(self, store: SqlStore, path: Path, driver: bool) -> None:
        for number in range(50):
            store.add(measured(number, samples=bytes(2000)))
        store.close()
        whole = bytearray(path.read_bytes())
        whole[4096:] = b"\xa5" * (len(whole) - 4096)  # all but the first page, which lists the tables
        path.write_bytes(whole)
        with pytest.raises(StoreError, match="damaged"):
            SqlStore.open(path, create=False, driver=driver).measurements()


@pytest.mark.parametrize(
    "damage",
    [
        "status = 'great'",
        "architecture = '1-?-1'",
        "detail = '{'",
        "value = NULL",
        "fidelity = ''",
        "status = 'failed'",
    ],
)
def test_a_row_that_no_run_writes_is_damage(store: SqlStore, path: Path, damage: str) -> None:
    store.add(measured(1))
    by_hand(path, f"UPDATE measurements SET {damage}")
    with raises("store.damaged"):
        store.measurements()
    if "detail" not in damage:  # which an outcome is without
        with raises("store.damaged"):
            store.outcomes()


def test_a_full_disk_is_told_and_keeps_what_was_committed(store: SqlStore) -> None:
    store.add(measured(1))
    with (
        store.session.engine.connect() as connection
    ):  # the pool's one connection; SQLite's own limit stands for the disk's
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="free space"):
        store.add(measured(2, samples=bytes(100_000)))
    assert store.measurements() == [measured(1)]


@pytest.mark.parametrize("table", tables.METADATA.sorted_tables, ids=lambda table: str(table.name))
def test_the_tables_can_be_made_in_postgresql(table: Table) -> None:
    made = str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    assert made.strip().startswith(f"CREATE TABLE {table.name}")
