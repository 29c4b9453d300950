"""Notifications of the ends of runs, received by a real HTTP server: signed, tried again, and kept from private networks."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nas.engine.run_listing import RunSnapshot
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.service.http.app import create_app
from nas.service.jobs.dispatcher import Dispatcher
from nas.service.service import Service
from nas.service.settings import ServiceSettings, Webhook
from nas.service.state import ServiceState
from nas.service.webhooks import Webhooks, checked_webhook
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.conftest import HERE
from tests.nas.service.made_runs import Jobs

SECRET = "a secret of the receiver"


@dataclass
class Receiver:
    """A server that answers with the given statuses in turn, the last one again and again."""

    statuses: list[int] = field(default_factory=lambda: [204])
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.requests]


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    receiver = Receiver(list(statuses) or [204])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append((self.path, dict(self.headers), body))
            status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook?team=a"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def dripping() -> Iterator[str]:
    """The address of a receiver that sends its status line, and then a header without end."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not ended.wait(0.1):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Clock:
    now: float = 2e9

    def __call__(self) -> float:
        return self.now


class Running:
    """A service, its dispatcher and its webhooks, whose threads do not run: tests take the steps."""

    def __init__(self, settings: ServiceSettings, **options: Any) -> None:
        settings.runs.check_writable()
        self.settings, self.clock = settings, Clock()
        self.state = ServiceState.open(settings.database)
        self.service = Service(settings, self.state, Jobs())
        self.webhooks = Webhooks(settings, self.state, clock=self.clock, **options)
        self.webhooks._address = "http://nas.team.example:8700"
        self.jobs = Jobs()
        self.dispatcher = Dispatcher(
            settings, self.state, self.jobs, address=lambda: None, ended=self.webhooks.run_ended
        )  # fmt: skip

    def submit(self, webhook: dict[str, str] | None = None) -> Any:
        with TestClient(create_app(self.service, self.settings), base_url=HERE) as client:
            return client.post("/api/v1/runs", json={"job": SMALL_JOB, "webhook": webhook})

    def end(self, run: str, status: RunStatus = RunStatus.FINISHED, reason: str = "") -> None:
        """Ends a run as its driver does, and lets the dispatcher see it."""
        self.state.change(run, started=True, attempt=1)
        store = open_store(self.settings.runs.get(run), driver=True)
        store.set_status(status, reason=reason)
        store.close()
        for job in list(self.jobs.known):
            self.jobs.stop(job)
        self.dispatcher.tick()


@pytest.fixture
def private(runs: RunsFolder) -> ServiceSettings:
    return ServiceSettings(runs, private_webhooks=True)


@pytest.fixture
def running(private: ServiceSettings) -> Iterator[Running]:
    made = Running(private)
    yield made
    made.state.close()


def test_the_end_of_a_run_is_notified_once_and_signed(running: Running) -> None:
    with receiving() as receiver:
        run = running.submit({"url": receiver.url, "secret": SECRET}).json()["run"]
        running.dispatcher.tick()
        running.webhooks.work()
        assert receiver.requests == []
        running.end(run, RunStatus.FAILED, "the disk is full")
        running.dispatcher.tick()
        running.webhooks.work()
        running.webhooks.work()
    [(path, headers, body)] = receiver.requests
    assert path == "/hook?team=a"
    assert headers["Host"] == receiver.url.split("/")[2]
    expected = hmac.new(SECRET.encode(), headers["Nas-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["Nas-Signature"] == f"sha256={expected}"
    [sent] = receiver.bodies
    assert (sent["event"], sent["run"], sent["status"]) == ("run.ended", run, "failed")
    assert (sent["reason"], sent["address"]) == ("the disk is full", f"http://nas.team.example:8700/runs/{run}")
    assert SECRET not in body.decode()


def test_a_run_that_is_resumed_is_notified_of_its_next_end(running: Running) -> None:
    with receiving() as receiver:
        run = running.submit({"url": receiver.url, "secret": SECRET}).json()["run"]
        running.end(run, RunStatus.CANCELLED)
        running.webhooks.work()
        store = open_store(running.settings.runs.get(run), driver=True)
        store.set_status(RunStatus.QUEUED)
        store.close()
        running.state.resume(run, {})
        running.end(run)
        running.webhooks.work()
        # After a restart of the server, every run that has ended is looked at again.
        Dispatcher(
            running.settings, running.state, Jobs(), address=lambda: None, ended=running.webhooks.run_ended
        ).tick()
        running.webhooks.work()
    assert [sent["status"] for sent in receiver.bodies] == ["cancelled", "finished"]
    assert running.state.webhook(run) == Webhook(receiver.url, SECRET)  # it may be resumed again
    running.service.submissions.delete(run)
    assert running.state.webhook(run) is None


def test_a_failed_delivery_is_tried_again_with_pauses_and_given_up(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(500, 302, 200) as receiver:
        run = running.submit({"url": receiver.url, "secret": SECRET}).json()["run"]
        running.end(run)
        assert running.webhooks.work() == 10.0
        running.webhooks.work()
        assert len(receiver.requests) == 1  # the pause is not over
        running.clock.now += 10
        assert running.webhooks.work() == 60.0
        assert running.webhooks.work() == 60.0
        running.clock.now += 60
        running.webhooks.work()
        assert running.state.deliveries() == []
        assert [path for path, _, _ in receiver.requests] == ["/hook?team=a"] * 3  # a redirect is not followed
        assert len({headers["Nas-Delivery"] for _, headers, _ in receiver.requests}) == 1
        second = running.submit({"url": receiver.url, "secret": SECRET}).json()["run"]
    running.end(second)  # nobody listens any more
    for _ in range(6):
        running.webhooks.work()
        running.clock.now += 2000
    assert running.state.deliveries() == []
    assert "could not be notified in 5 attempts" in caplog.text
    assert SECRET not in caplog.text


def test_the_webhook_of_the_server_is_notified_of_every_run(runs: RunsFolder) -> None:
    with receiving() as receiver:
        running = Running(ServiceSettings(runs, webhook=Webhook(receiver.url, SECRET)))  # private, of its owner
        run = running.submit().json()["run"]
        running.end(run)
        running.webhooks.work()
        running.state.close()
    assert [sent["run"] for sent in receiver.bodies] == [run]


def test_deliveries_outlive_the_server(private: ServiceSettings) -> None:
    with receiving() as receiver:
        first = Running(private)
        run = first.submit({"url": receiver.url, "secret": SECRET}).json()["run"]
        first.end(run)
        first.state.close()
        second = Running(private)
        second.webhooks.work()
        second.state.close()
    assert [sent["run"] for sent in receiver.bodies] == [run]


PRIVATE = [
    "http://127.0.0.1:8700/", "http://localhost/x", "http://[::1]/", "http://10.0.0.8/", "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data", "http://[::ffff:10.0.0.1]/", "http://0.0.0.0/", "http://nas.internal/",
    "http://[fe80::1]/", "http://100.64.0.1/", "http://224.0.0.1/",
]  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
def test_submissions_may_not_name_private_addresses(url: str) -> None:
    with raises("webhook.private"):
        checked_webhook(url, SECRET, allow_private=False)
    assert checked_webhook(url, SECRET, allow_private=True).url == url


@pytest.mark.parametrize(
    "url", ["", "ftp://a.example/", "file:///etc/passwd", "https://", "https://u:p@a.example/", "x" * 90]
)
def test_other_addresses_are_rejected(url: str) -> None:
    with raises("webhook.invalid"):
        checked_webhook(url, SECRET, allow_private=True)


def test_what_is_wrong_is_answered_and_nothing_is_stored(running: Running, runs: RunsFolder) -> None:
    short = running.submit({"url": "https://a.example/", "secret": "short"})
    assert short.status_code == 422
    running.service.submissions._private_webhooks = False
    answer = running.submit({"url": "http://127.0.0.1/", "secret": SECRET})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems#webhook.private")
    assert [error["field"] for error in answer.json()["errors"]] == ["webhook.url"]
    assert runs.list() == []


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1"]])
def test_a_public_name_of_a_private_address_gets_nothing(runs: RunsFolder, addresses: list[str]) -> None:
    with receiving() as receiver:
        running = Running(ServiceSettings(runs), resolve=lambda host, port: addresses)
        url = receiver.url.replace("127.0.0.1", "hook.team.example")
        run = running.submit({"url": url, "secret": SECRET}).json()["run"]
        running.end(run)
        running.webhooks.work()
        [delivery] = running.state.deliveries()
        running.state.close()
    assert (receiver.requests, delivery.attempts) == ([], 1)


def test_the_address_that_was_checked_is_the_one_that_is_used(private: ServiceSettings) -> None:
    with receiving() as receiver:
        running = Running(private, resolve=lambda host, port: ["127.0.0.1"])
        url = receiver.url.replace("127.0.0.1", "hook.team.example")
        run = running.submit({"url": url, "secret": SECRET}).json()["run"]
        running.end(run)
        running.webhooks.work()
        running.state.close()
    [(_, headers, _)] = receiver.requests
    assert headers["Host"] == url.split("/")[2]  # the name, which nobody resolves here


def test_the_thread_sends_and_the_dispatcher_does_not_wait(
    private: ServiceSettings, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as receiver:
        running = Running(replace(private, public_url="https://nas.team.example"))
        running.webhooks = Webhooks(running.settings, running.state, address="http://127.0.0.1:1")
        running.dispatcher._ended = running.webhooks.run_ended
        sent = threading.Event()
        forget = running.state.forget_delivery
        monkeypatch.setattr(running.state, "forget_delivery", lambda delivery: (forget(delivery), sent.set()))
        run = running.submit({"url": receiver.url, "secret": SECRET}).json()["run"]
        running.webhooks.start()
        running.end(run)
        assert sent.wait(20)
        running.webhooks.close()
        running.state.close()
    assert [body["address"] for body in receiver.bodies] == [f"https://nas.team.example/runs/{run}"]


def test_a_receiver_that_answers_byte_by_byte_delays_no_other(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.service.webhooks._TIMEOUT_S", 1.0)
    with dripping() as slow, receiving() as receiver:
        for url in (slow, receiver.url, receiver.url):
            running.end(running.submit({"url": url, "secret": SECRET}).json()["run"])
        running.webhooks.work()
    assert len(receiver.requests) == 2
    [delivery] = running.state.deliveries()
    assert (delivery.url, delivery.attempts) == (slow, 1)


def test_runs_of_a_database_of_an_earlier_version_are_not_notified(private: ServiceSettings, tmp_path: Path) -> None:
    running = Running(private)
    run = running.submit().json()["run"]
    with running.state._writing() as connection:
        for table in ("webhooks", "ends", "deliveries", "usage"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
        for column in ("priority", "place", "expected_s"):
            connection.exec_driver_sql(f"ALTER TABLE submissions DROP COLUMN {column}")
        connection.exec_driver_sql("UPDATE schema_version SET version = 2")
    running.state.close()
    with receiving() as receiver:
        later = Running(replace(private, webhook=Webhook(receiver.url, SECRET)))
        submission = later.state.submission(run)
        assert submission is not None
        ended = RunSnapshot(RunStatus.FINISHED, has_driver=False, progress=0, ended=1e9)  # long ago
        later.webhooks.run_ended(submission, ended)
        later.webhooks.work()
        later.state.close()
    assert receiver.requests == []
