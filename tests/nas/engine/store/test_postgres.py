"""The store in PostgreSQL keeps the same contract, lets one driver at a time write, and tells what is wrong in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nas.engine.store import postgres as postgres_module
from nas.engine.store.base import Event, Fit, RunStatus
from nas.engine.store.lease import Holder
from nas.engine.store.postgres import PostgresDatabase, new_schema
from nas.engine.store.sql import SqlStore
from nas.errors import RunHeldError, StoreAwayError, StoreError
from nas.search.problem.objectives import Fidelity
from tests.contracts.run_facts import search_facts
from tests.contracts.store import NOW, DatabaseContract, architecture, measured, request
from tests.errors import raises
from tests.postgres_server import PASSWORD, Server

ROOT = Path(__file__).parents[4]
HOLD = """
import os, sys
from sqlalchemy import make_url
from nas.engine.store import postgres as postgres_module
from nas.engine.store.postgres import PostgresDatabase
from nas.engine.store.sql import SqlStore
from tests.contracts.store import measured
store = SqlStore.open(PostgresDatabase(make_url(sys.argv[1]), sys.argv[2]), create=False, driver=True)
store.add(measured(1))
child = os.fork() if sys.argv[3] == "fork" else 0
if child or sys.argv[3] != "fork":
    print(child, flush=True)
sys.stdin.readline()  # for ever: a forked child lives on as an orphan, as a data loader's worker may
"""


@pytest.fixture
def place(postgres: Server) -> PostgresDatabase:
    """A schema that is not there yet."""
    return new_schema(postgres.url, "100% Digits?")


@pytest.fixture
def store(place: PostgresDatabase) -> Iterator[SqlStore]:
    opened = open_(place, create=True)
    yield opened
    opened.close()


def open_(place: PostgresDatabase, *, create: bool = False) -> SqlStore:
    return SqlStore.open(place, create=create, driver=True, clock=lambda: NOW)


def by_hand(server: Server, statement: str) -> list[tuple[object, ...]]:
    with server.connect() as made:
        cursor = made.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def disconnect_drivers(server: Server) -> None:
    """As when a driver's machine is gone: the server ends its session, with all that it held."""
    by_hand(
        server,
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()",
    )


class TestPostgresStore(DatabaseContract):
    @pytest.fixture
    def store(self, store: SqlStore) -> SqlStore:
        return store

    @pytest.fixture
    def reopen(self, place: PostgresDatabase) -> Callable[[], SqlStore]:
        return lambda: open_(place)


def test_rows_outlive_the_store_and_readers_see_them_at_once(store: SqlStore, place: PostgresDatabase) -> None:
    reader = SqlStore.open(place, create=False, driver=False)
    store.set_status(RunStatus.RUNNING, reason="started")
    store.describe(search_facts(), epoch=3)
    store.record_ask(0, [architecture(1)])
    store.add(measured(1, samples=b"raw"))
    store.record_fit(Fit(0, "accuracy", {"mape": 0.1}))
    store.record_event("retry", {"n": 1})
    store.close()
    again = open_(place, create=True)
    for one in (reader, again):
        assert (one.status(), one.reason()) == (RunStatus.RUNNING, "started")
        assert (one.facts(), one.state().epoch) == (search_facts(), 3)
        assert one.asks() == [[architecture(1)]]
        assert one.measurements(Fidelity.SEARCH) == [measured(1)]
        assert one.samples(request(1)) == b"raw"
        assert (one.fits(), one.events()) == ([Fit(0, "accuracy", {"mape": 0.1})], [Event("retry", {"n": 1}, NOW)])
    with raises("store.read-only"):
        reader.add(measured(2))
    again.close()


def test_runs_of_one_database_are_apart(store: SqlStore, postgres: Server) -> None:
    other = open_(new_schema(postgres.url, "other"), create=True)
    store.add(measured(1))
    assert other.measurements() == []
    other.close()


def test_a_second_driver_is_refused_by_name(store: SqlStore, place: PostgresDatabase) -> None:
    holder = Holder.this()
    assert place.is_held()
    with raises("run.held", f"process {holder.pid} on {holder.host}"):
        open_(place)
    store.add(measured(1))
    store.close()
    assert not place.is_held()
    open_(place).close()


def test_a_driver_that_lost_its_connection_goes_on_where_nobody_took_the_run(
    store: SqlStore, place: PostgresDatabase, postgres: Server
) -> None:
    store.add(measured(1))
    disconnect_drivers(postgres)
    store.add(measured(2))
    assert [m.request for m in store.measurements()] == [request(1), request(2)]
    with pytest.raises(RunHeldError):
        open_(place)


@pytest.mark.parametrize("ended", [False, True])
def test_a_driver_given_up_for_dead_writes_no_more(
    store: SqlStore, place: PostgresDatabase, postgres: Server, ended: bool
) -> None:
    store.add(measured(1))
    disconnect_drivers(postgres)
    successor = open_(place)
    if ended:
        successor.close()
    writes: list[Callable[[], None]] = [
        lambda: store.set_status(RunStatus.FINISHED),
        lambda: store.update_state(epoch=1),
        lambda: store.record_ask(0, [architecture(2)]),
        lambda: store.add(measured(2)),
    ]
    for write in writes[: 4 if ended else 1]:  # each waits two seconds for a living one's lock
        with raises("run.taken-over" if ended else "run.held", "process"):
            write()
    reader = SqlStore.open(place, create=False, driver=False)
    assert reader.measurements() == [measured(1)]
    successor.close()


@pytest.mark.parametrize("kind", ["alone", "fork"])
def test_a_killed_driver_frees_the_run_and_keeps_what_it_committed(
    store: SqlStore, place: PostgresDatabase, kind: str
) -> None:
    store.close()
    url = place.url.render_as_string()
    command = [sys.executable, "-c", HOLD, url, str(place.schema), kind]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        child = int(driver.stdout.readline())
        try:
            assert place.is_held()
            driver.kill()
            driver.wait()
            again = open_(place)
            assert again.measurements() == [measured(1)]
            again.close()
        finally:
            if child:
                os.kill(child, signal.SIGKILL)


def test_an_interrupted_making_is_finished_by_the_next(place: PostgresDatabase) -> None:
    for driver in (False, True):
        with raises("store.no-run"):
            SqlStore.open(place, create=False, driver=driver)
    made = open_(place, create=True)
    made.add(measured(1))
    made.close()


def test_a_table_that_another_session_locks_is_told(
    store: SqlStore, place: PostgresDatabase, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    monkeypatch.setattr(postgres_module, "_LOCK_S", 1)
    with postgres.connect() as other, other.transaction():
        other.execute(f"LOCK TABLE {place.schema}.lease IN ACCESS EXCLUSIVE MODE".encode())
        with pytest.raises(StoreError, match="is locked by another session"):
            open_(place)


def test_the_wait_is_part_of_the_url_of_a_run_and_not_of_its_server(postgres: Server) -> None:
    place = new_schema(f"{postgres.url}&wait_minutes=2.5", "digits")
    assert (place.wait_minutes, new_schema(postgres.url, "digits").wait_minutes) == (2.5, 10.0)
    assert "wait_minutes=2.5" in place.url.render_as_string()
    assert "wait_minutes" not in f"{place.name} {place.server}"
    open_(place, create=True).close()


class TestWhatIsWrongIsTold:
    def test_no_server(self) -> None:
        with pytest.raises(StoreError, match=r"nas@127.0.0.1:1/nas: does not answer; look at host and port"):
            new_schema("postgresql://nas@127.0.0.1:1/nas", "digits")

    def test_no_host(self) -> None:
        with pytest.raises(StoreError, match="names no known host"):
            new_schema("postgresql://nas@no-such-host.invalid/nas", "digits")

    def test_no_database(self, postgres: Server) -> None:
        with pytest.raises(StoreError, match=r"has no database missing .*createdb missing"):
            new_schema(postgres.url.replace("/nas?", "/missing?"), "digits")

    def test_no_password_a_wrong_one_and_the_right_one(self, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PGPASSWORD", raising=False)
        monkeypatch.setenv("PGPASSFILE", os.devnull)
        with pytest.raises(StoreError, match=r"asks for a password; set PGPASSWORD"):
            new_schema(postgres.url_with_password, "digits")
        monkeypatch.setenv("PGPASSWORD", "wrong")
        with pytest.raises(StoreError, match=r"refuses this user's password; set PGPASSWORD"):
            new_schema(postgres.url_with_password, "digits")
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        open_(new_schema(postgres.url_with_password, "digits"), create=True).close()

    def test_no_right_to_make_a_schema(self, postgres: Server) -> None:
        by_hand(postgres, "DROP ROLE IF EXISTS guest")
        by_hand(postgres, "CREATE ROLE guest LOGIN")
        with pytest.raises(StoreError, match="grant it CREATE on the database"):
            new_schema(postgres.url.replace("//nas@", "//guest@"), "digits")

    def test_tables_that_are_gone(self, store: SqlStore, place: PostgresDatabase, postgres: Server) -> None:
        by_hand(postgres, f"DROP SCHEMA {place.schema} CASCADE")
        with pytest.raises(StoreError, match="does not hold this run's tables") as told:
            store.measurements()
        assert not isinstance(told.value, StoreAwayError)  # the server has answered

    def test_another_version(self, store: SqlStore, place: PostgresDatabase, postgres: Server) -> None:
        store.close()
        by_hand(postgres, f"UPDATE {place.schema}.schema_version SET version = 99")
        with raises("store.unknown-version", "version 99"):
            open_(place)
        deadline = time.monotonic() + 120  # the server notices a closed connection when it likes
        while place.is_held():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @pytest.mark.parametrize(
        ("url", "code", "value"),
        [
            ("not a url", "store.invalid-url", "'not a url'"),
            ("mysql://me@host/db", "store.invalid-url", "PostgreSQL"),
            ("postgresql://me:secret@host/db", "store.password-in-url", "PGPASSWORD"),
            ("postgresql://me@host/db?password=secret", "store.password-in-url", "store postgresql://me@host/db:"),
            ("postgresql://me@host", "store.invalid-url", "names no database"),
            ("postgresql://me:secret@host:port/db", "store.invalid-url", "'postgresql://me:***@host:port/db'"),
            ("postgresql://me@host/db?wait_minutes=long", "store.invalid-url", "wait_minutes: expected minutes from 0"),
            ("postgresql://me@host/db?wait_minutes=-1", "store.invalid-url", "got '-1'"),
            ("postgresql://me@localhost:99999/db", "store.unusable", "port"),
            ("postgresql://me@localhost/db?colour=red", "store.unusable", "colour"),
        ],
    )
    def test_an_unusable_url(self, url: str, code: str, value: str) -> None:
        with raises(code, value) as raised:
            new_schema(url, "digits")
        assert "secret" not in str(raised.value)

    def test_no_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with raises("store.no-client", "pip install 'subnet-nas[postgres]'"):
            new_schema("postgresql://me@host/db", "digits")
