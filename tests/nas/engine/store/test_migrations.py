"""Databases of earlier versions become those of this one, all or nothing: the first one, and along a made-up chain."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, inspect

from nas.engine.store import tables
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunFolder
from nas.engine.store.migrations import Migration
from nas.engine.store.opening import upgrade_store
from nas.engine.store.postgres import PostgresDatabase, new_schema
from nas.engine.store.sql import SqlStore
from nas.errors import OutdatedStoreError, Remedy, RunHeldError, StoreError
from nas.service import state
from nas.service.state import ServiceState, Submission, TaskStatus
from tests.contracts.store import NOW, measured
from tests.data import first_versions
from tests.errors import raises
from tests.nas.engine.store.test_sql import FACTS, check_filled, fill
from tests.postgres_server import Server


def add_notes(connection: Connection) -> None:
    """Made up: a table, and a row in it for each status."""
    connection.exec_driver_sql("CREATE TABLE notes (id INTEGER PRIMARY KEY, text VARCHAR NOT NULL)")
    connection.exec_driver_sql("INSERT INTO notes SELECT id, reason FROM status")


def mark_notes(connection: Connection) -> None:
    """Made up: a column of the table that the migration before made, and a fact in one that was there."""
    connection.exec_driver_sql("ALTER TABLE notes ADD COLUMN mark VARCHAR NOT NULL DEFAULT 'old'")
    connection.exec_driver_sql("UPDATE status SET reason = 'started, long ago'")


def fail(connection: Connection) -> None:
    connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's database of version 1."""
    return first_versions.make("run", tmp_path / "run.db")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this program one whose tables went through more migrations."""

    def go_on(*migrations: Migration) -> None:
        monkeypatch.setattr(tables, "SCHEMA", replace(tables.SCHEMA, migrations=migrations))

    return go_on


def asked(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def dumped(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def shape(path: Path) -> dict[str, object]:
    """Tables with their columns and keys, however their statements were written."""
    engine = create_engine(f"sqlite:///{path}")
    try:
        looked = inspect(engine)
        return {
            name: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in looked.get_columns(name)],
                looked.get_pk_constraint(name)["constrained_columns"],
                sorted(u["column_names"] for u in looked.get_unique_constraints(name)),
                [(f["constrained_columns"], f["referred_table"]) for f in looked.get_foreign_keys(name)],
                sorted((i["name"], i["column_names"]) for i in looked.get_indexes(name)),
            )
            for name in looked.get_table_names()
        }
    finally:
        engine.dispose()


class TestFromTheFirstVersion:
    def test_a_run_is_read_and_driven_on(self, run: Path) -> None:
        store = SqlStore.open(run, create=False, driver=True, clock=lambda: NOW)
        check_filled(store)
        store.add(measured(2))
        store.set_status(RunStatus.FINISHED)
        store.close()
        reader = SqlStore.open(run, create=False, driver=False)
        assert len(reader.measurements()) == 2
        assert reader.status() is RunStatus.FINISHED
        reader.close()

    def test_its_tables_become_those_of_a_new_run(self, run: Path, tmp_path: Path) -> None:
        SqlStore.open(run, create=False, driver=True).close()
        SqlStore.open(tmp_path / "new.db", create=True, driver=True).close()
        assert shape(run) == shape(tmp_path / "new.db")

    def test_the_service_goes_on_with_its_own(self, tmp_path: Path) -> None:
        old = first_versions.make("service", tmp_path / "service.db")
        opened = ServiceState.open(old, clock=lambda: NOW)
        assert opened.submissions() == [
            Submission("small-1", "search", NOW, "somebody", attempt=2, started=True, deaths=1, progress=7,
                       options={"evaluations": "+50"})
        ]  # fmt: skip
        (task,) = opened.tasks()
        assert (task.status, task.result) == (TaskStatus.FINISHED, {"parity": 1e-7})
        opened.close()
        ServiceState.open(tmp_path / "new.db").close()
        assert shape(old) == shape(tmp_path / "new.db")


class TestAlongAChain:
    def test_a_driver_brings_a_run_up_to_date(self, run: Path, later: Callable[..., None]) -> None:
        later(add_notes, mark_notes)
        store = SqlStore.open(run, create=False, driver=True)
        assert store.reason() == "started, long ago"
        assert store.facts() == FACTS
        store.close()
        assert asked(run, "SELECT * FROM notes") == [(1, "started", "old")]
        assert asked(run, "SELECT version FROM schema_version") == [(3,)]

    def test_each_migration_is_made_once(self, run: Path, later: Callable[..., None]) -> None:
        later(add_notes)
        SqlStore.open(run, create=False, driver=True).close()
        later(add_notes, mark_notes)
        for _ in range(2):
            SqlStore.open(run, create=False, driver=True).close()
        assert asked(run, "SELECT count(*), max(mark) FROM notes") == [(1, "old")]

    def test_a_new_run_needs_none(self, tmp_path: Path, later: Callable[..., None]) -> None:
        later(fail)
        SqlStore.open(tmp_path / "new.db", create=True, driver=True).close()
        assert asked(tmp_path / "new.db", "SELECT version FROM schema_version") == [(2,)]
        SqlStore.open(tmp_path / "new.db", create=False, driver=False).close()

    def test_one_that_fails_leaves_everything_as_it_was(self, run: Path, later: Callable[..., None]) -> None:
        before = dumped(run)
        later(add_notes, mark_notes, fail)
        with pytest.raises(StoreError, match="nowhere"):
            SqlStore.open(run, create=False, driver=True)
        assert dumped(run) == before
        later()
        SqlStore.open(run, create=False, driver=True).close()  # its lock is free

    def test_a_kill_in_the_middle_leaves_everything_as_it_was(self, run: Path) -> None:
        before = dumped(run)
        code = """
import os, signal, sys
from dataclasses import replace
from nas.engine.store import tables
from nas.engine.store.sql import SqlStore
from tests.nas.engine.store.test_migrations import add_notes
def killed(connection):
    add_notes(connection)
    os.kill(os.getpid(), signal.SIGKILL)
tables.SCHEMA = replace(tables.SCHEMA, migrations=(killed,))
SqlStore.open(sys.argv[1], create=False, driver=True)
"""
        done = subprocess.run([sys.executable, "-c", code, str(run)], cwd=Path(__file__).parents[4], check=False)
        assert done.returncode == -9
        assert dumped(run) == before

    def test_whoever_only_reads_changes_nothing_and_is_told_what_to_do(
        self, run: Path, later: Callable[..., None]
    ) -> None:
        later(add_notes)
        with raises("store.outdated", "version 1", "reads 2", remedy=Remedy("upgrade")):
            SqlStore.open(run, create=False, driver=False)
        assert asked(run, "SELECT version FROM schema_version") == [(1,)]

    def test_an_earlier_program_leaves_a_later_run_alone(self, run: Path, later: Callable[..., None]) -> None:
        later(add_notes)
        SqlStore.open(run, create=False, driver=True).close()
        later()
        for driver in (False, True):
            with raises("store.unknown-version", "version 2", "reads 1"):
                SqlStore.open(run, create=False, driver=driver)

    def test_the_service_brings_its_own_up_to_date(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def colour(connection: Connection) -> None:
            connection.exec_driver_sql("ALTER TABLE tasks ADD COLUMN colour VARCHAR NOT NULL DEFAULT 'blue'")

        old = first_versions.make("service", tmp_path / "service.db")
        before = dumped(old)
        monkeypatch.setattr(state, "SCHEMA", replace(state.SCHEMA, migrations=(colour, fail)))
        with pytest.raises(StoreError, match="nowhere"):
            ServiceState.open(old)
        assert dumped(old) == before
        monkeypatch.setattr(state, "SCHEMA", replace(state.SCHEMA, migrations=(colour,)))
        ServiceState.open(old).close()
        assert asked(old, "SELECT task, colour FROM tasks") == [("e1", "blue")]


class TestARunsFolder:
    def test_is_brought_up_to_date_once(self, run: Path, later: Callable[..., None]) -> None:
        folder = RunFolder(run.parent)
        assert not upgrade_store(folder)
        later(add_notes)
        assert upgrade_store(folder)
        assert not upgrade_store(folder)

    def test_is_left_to_a_live_driver(self, run: Path, later: Callable[..., None]) -> None:
        driver = SqlStore.open(run, create=False, driver=True)
        later(add_notes)
        with pytest.raises(RunHeldError):
            upgrade_store(RunFolder(run.parent))
        driver.close()


@pytest.fixture
def place(postgres: Server) -> PostgresDatabase:
    return new_schema(postgres.url, "migrated")


def test_a_run_in_postgresql_goes_along_the_same_chain(place: PostgresDatabase, later: Callable[..., None]) -> None:
    store = SqlStore.open(place, create=True, driver=True, clock=lambda: NOW)
    fill(store)
    store.close()
    later(add_notes, mark_notes, fail)
    with pytest.raises(StoreError, match="nowhere"):
        SqlStore.open(place, create=False, driver=True)
    later(add_notes, mark_notes)
    with pytest.raises(OutdatedStoreError):
        SqlStore.open(place, create=False, driver=False)
    store = SqlStore.open(place, create=False, driver=True)
    assert store.reason() == "started, long ago"
    store.close()
    engine = place.reading_engine()
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT text, mark FROM {place.schema}.notes").fetchall()
    engine.dispose()
    assert [tuple(row) for row in found] == [("started", "old")]
