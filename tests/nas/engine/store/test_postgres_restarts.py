"""A driver's store waits for a PostgreSQL server that restarts: no row is lost, and none is written twice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from nas.engine.store.base import Event, Fit, RunStatus
from nas.engine.store.postgres import PostgresDatabase, new_schema
from nas.engine.store.sql import SqlStore
from nas.errors import StoreAwayError
from nas.search.problem.objectives import Fidelity
from tests.contracts.store import NOW, architecture, measured, request
from tests.errors import raises
from tests.postgres_server import PASSWORD, Server, binaries, running_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binaries() is None, reason="needs the programs of a PostgreSQL server"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that no other test uses at the same time."""
    with running_server() as running:
        yield running


@contextmanager
def restarting(server: Server, *, crash: bool = False) -> Iterator[None]:
    """The server is down, and back a moment later."""
    server.stop(crash=crash)
    timer = threading.Timer(0.5, server.start)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextmanager
def opened(place: PostgresDatabase, waits: list[str], *, create: bool = False) -> Iterator[SqlStore]:
    store = SqlStore.open(place, create=create, driver=True, clock=lambda: NOW, on_wait=waits.append)
    try:
        yield store
    finally:
        store.close()


WRITES: list[Callable[[SqlStore], None]] = [
    lambda store: store.set_status(RunStatus.RUNNING, reason="started"),
    lambda store: store.update_state(epoch=3),
    lambda store: store.record_ask(0, [architecture(1)]),
    lambda store: store.add(measured(1, samples=b"raw")),
    lambda store: store.record_fit(Fit(0, "accuracy", {"mape": 0.1})),
    lambda store: store.record_event("retry", {"n": 1}),
]


def check_rows(store: SqlStore) -> None:
    """Everything of `WRITES` is there once."""
    assert store.statuses() == [(RunStatus.RUNNING, NOW)]
    assert (store.status(), store.reason(), store.state().epoch) == (RunStatus.RUNNING, "started", 3)
    assert store.asks() == [[architecture(1)]]
    assert store.measurements(Fidelity.SEARCH) == [measured(1)]
    assert (store.n_measurements(), store.samples(request(1))) == (1, b"raw")
    assert (store.fits(), store.events()) == ([Fit(0, "accuracy", {"mape": 0.1})], [Event("retry", {"n": 1}, NOW)])


@pytest.mark.parametrize("crash", [False, True])
def test_every_statement_waits_for_the_server(server: Server, crash: bool) -> None:
    waits: list[str] = []
    with opened(new_schema(server.url, "digits"), waits, create=True) as store:
        for write in WRITES:
            with restarting(server, crash=crash):
                write(store)
        with restarting(server, crash=crash):
            check_rows(store)
    begins, ends = waits[::2], waits[1::2]
    assert len(begins) == len(ends) >= len(WRITES)  # not where the server is back before the statement
    assert all(text.startswith("waits for the database server since ") for text in begins)
    assert set(ends) == {""}


def test_a_driver_that_begins_waits_too_and_one_that_does_not_wait_fails_at_once(server: Server) -> None:
    place, waits = new_schema(server.url, "digits"), list[str]()
    with opened(place, waits, create=True):
        pass
    with restarting(server):
        for driver in (True, False):
            with pytest.raises(StoreAwayError, match=r"does not answer|accepts no connection"):
                SqlStore.open(place, create=False, driver=driver)
        with opened(place, waits) as store:
            assert store.status() is RunStatus.QUEUED
    assert len(waits) == 2


def test_after_a_wait_in_vain_nothing_is_waited_for(server: Server) -> None:
    waits: list[str] = []
    with opened(new_schema(f"{server.url}&wait_minutes=0.01", "digits"), waits, create=True) as store:
        server.stop()
        try:
            for _ in range(2):
                with raises("store.unreachable", "does not answer"):
                    store.add(measured(1))
        finally:
            server.start()
        assert len(waits) == 2
        store.add(measured(1))


class Proxy:
    """A way to a server that loses the next commit, or the answer to it, and then the connection.

    Attributes:
        loses: "commit", "answer", or "client", where the server's session lives on without its client; "" for nothing.
    """

    def __init__(self, port: int) -> None:
        self.loses, self._target = "", port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for opened_socket in self._sockets:
            with suppress(OSError):
                opened_socket.shutdown(socket.SHUT_RDWR)
            opened_socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                threading.Thread(target=self._send, args=(client, server), daemon=True).start()
                threading.Thread(target=self._receive, args=(client, server), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if b"COMMIT" in data and self.loses in ("commit", "client"):
                    lost, self.loses = self.loses, ""
                    client.shutdown(socket.SHUT_RDWR)
                    if lost == "client":
                        return
                    break
                if b"COMMIT" in data and self.loses == "answer":
                    self.loses = "next answer"
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _receive(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if self.loses == "next answer":
                    self.loses = ""
                    server.shutdown(socket.SHUT_RDWR)
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("lost", ["commit", "answer", "client"])
def test_a_change_is_made_once_whatever_is_lost_with_its_commit(
    server: Server, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    proxy, waits = Proxy(server.port), list[str]()
    try:
        place = new_schema(server.url_with_password.replace(f":{server.port}/", f":{proxy.port}/"), "digits")
        with opened(place, waits, create=True) as store:
            for write in WRITES:
                proxy.loses = lost
                write(store)
                assert proxy.loses == ""
            check_rows(store)
        assert len(waits) == 2 * len(WRITES)
    finally:
        proxy.close()


def test_a_driver_without_a_wait_loses_the_change_with_its_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    proxy = Proxy(server.port)
    try:
        place = new_schema(server.url_with_password.replace(f":{server.port}/", f":{proxy.port}/"), "digits")
        store = SqlStore.open(place, create=True, driver=True)
        proxy.loses = "commit"
        with raises("store.unreachable", "connection was lost"):
            store.add(measured(1))
        assert store.n_measurements() == 0
        store.close()
    finally:
        proxy.close()
