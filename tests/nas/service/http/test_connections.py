"""Connections that never complete a request, or never read their response: they are closed, and keep nobody out."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from nas.service.http.app import create_app
from nas.service.http.connections import listening
from nas.service.http.server import uvicorn_config
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from tests.nas.service.client.test_tls import self_signed

PATIENCE_S = 20.0
SOON_S = 0.3
GET = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = GET + b"Connection: close\r\n\r\n"
BODY = b"POST /api/v1/jobs/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/yaml\r\nContent-Length: 500\r\n\r\n"
QUICK = Limits(head_s=SOON_S, body_s=SOON_S, unread_s=SOON_S)
FEW = Limits(connections=8, connections_per_address=4)


@contextmanager
def serving(app: ASGIApp, limits: Limits, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server in a thread."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        server = uvicorn.Server(uvicorn_config(app, limits, tls))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(timeout=PATIENCE_S)


@pytest.fixture
def served(service: Service, settings: ServiceSettings) -> Callable[..., Any]:
    def started(limits: Limits, tls: ssl.SSLContext | None = None) -> Any:
        changed = ServiceSettings(settings.runs, limits=limits)
        return serving(create_app(service, changed), limits, tls)

    return started


def connected(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S, source_address=(address, 0))


def received(connection: socket.socket, trickle: bytes = b"") -> bytes:
    """All that comes until the server closes the connection, while `trickle` is sent again and again."""
    found, end = b"", time.monotonic() + PATIENCE_S
    connection.settimeout(0.02 if trickle else PATIENCE_S)
    while time.monotonic() < end:
        try:
            piece = connection.recv(65_536)
        except TimeoutError:
            with suppress(OSError):
                connection.send(trickle)
        except ConnectionResetError:
            return found
        else:
            if not piece:
                return found
            found += piece
    raise AssertionError(f"the connection is still open; it had {found!r}")


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def problem_of(answer: bytes) -> Any:
    """The problem details of a response, whose head is checked."""
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in head.decode().split("\r\n")[1:])
    }
    assert fields["content-type"] == "application/problem+json"
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["connection"] == "close"
    assert int(fields["content-length"]) == len(body)
    return json.loads(body)


@pytest.mark.parametrize("trickle", [b"", b"X: a\r\n"], ids=["silent", "slow"])
def test_a_head_that_is_not_completed_is_given_up(served: Callable[..., Any], trickle: bytes) -> None:
    with served(QUICK) as port, connected(port) as connection:
        connection.sendall(GET)
        assert problem_of(received(connection, trickle))["status"] == 408


def test_a_second_head_on_a_connection_is_given_up(served: Callable[..., Any]) -> None:
    with served(QUICK) as port, connected(port) as connection:
        connection.sendall(GET + b"\r\n" + GET)
        answers = received(connection, b"X: a\r\n").split(b"HTTP/1.1 ")
        assert [answer[:3] for answer in answers[1:]] == [b"200", b"408"]


def test_a_connection_that_sends_nothing_is_closed_without_a_response(served: Callable[..., Any]) -> None:
    with served(QUICK) as port, connected(port) as connection:
        assert received(connection) == b""


@pytest.mark.parametrize("trickle", [b"", b"#"], ids=["silent", "slow"])
def test_a_body_that_is_not_completed_is_given_up(served: Callable[..., Any], trickle: bytes) -> None:
    with served(QUICK) as port, connected(port) as connection:
        connection.sendall(BODY)
        assert problem_of(received(connection, trickle))["status"] == 408


@pytest.mark.parametrize("trickle", [b"", b"#"], ids=["silent", "slow"])
def test_a_body_that_no_route_reads_is_given_up(served: Callable[..., Any], trickle: bytes) -> None:
    with served(QUICK) as port, connected(port) as connection:
        connection.sendall(BODY.replace(b"/api/v1/jobs/check", b"/nowhere"))
        assert status_of(received(connection, trickle)) == 404


def test_a_response_that_is_not_read_is_given_up() -> None:
    ended = threading.Event()

    async def disconnected(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.create_task(disconnected(receive))
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
            await asyncio.sleep(0)
        ended.set()

    with serving(endless, QUICK) as port, connected(port) as connection:
        connection.sendall(GET + b"\r\n")
        assert ended.wait(PATIENCE_S)


def test_idle_connections_give_way_to_new_ones_of_their_address(served: Callable[..., Any]) -> None:
    with served(FEW) as port, ExitStack() as stack:
        idle = [stack.enter_context(connected(port)) for _ in range(10)]
        with connected(port) as connection:
            connection.sendall(WHOLE)
            assert status_of(received(connection)) == 200
        assert received(idle[0]) == b""  # the oldest
        idle[-1].sendall(WHOLE)
        assert status_of(received(idle[-1])) == 200


def test_the_address_with_most_connections_gives_way_to_others(served: Callable[..., Any]) -> None:
    with served(FEW) as port, ExitStack() as stack:
        many = [stack.enter_context(connected(port, f"127.0.0.{n}")) for n in (2, 2, 2, 2, 3, 3, 3, 4)]
        new = stack.enter_context(connected(port, "127.0.0.5"))
        new.sendall(WHOLE)
        assert status_of(received(new)) == 200
        assert received(many[0]) == b""
        for connection in many[1:]:
            connection.sendall(WHOLE)
            assert status_of(received(connection)) == 200


def test_requests_in_progress_are_kept_and_further_ones_rejected(served: Callable[..., Any]) -> None:
    with served(FEW) as port, ExitStack() as stack:
        slow = [stack.enter_context(connected(port, f"127.0.0.{n}")) for n in (2, 2, 2, 2, 3, 3, 3, 3)]
        for connection in slow:
            connection.sendall(BODY.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
            assert status_of(connection.recv(65_536)) == 100  # the application waits for the body
        for address, status in (("127.0.0.2", 429), ("127.0.0.4", 503)):
            with connected(port, address) as connection:
                rejected = received(connection)
            problem = problem_of(rejected)
            assert (problem["status"], problem["type"]) == (status, "about:blank")
            assert b"retry-after: 5" in rejected.lower()
        for connection in slow:
            connection.sendall(b"#" * 500)
            assert status_of(connection.recv(65_536)) == 200


def test_a_flood_of_connections_of_one_address_is_dropped(settings: ServiceSettings) -> None:
    slow = ServiceSettings(settings.runs, port=0, limits=Limits(requests_per_minute=18))  # so three at once
    with listening(slow) as opened, ExitStack() as stack:
        opened.setblocking(False)
        port = opened.getsockname()[1]
        flood = [stack.enter_context(connected(port, "127.0.0.2")) for _ in range(150)]
        stack.enter_context(connected(port, "127.0.0.3"))
        accepted: list[str] = []
        for _ in range(200):
            with suppress(BlockingIOError):
                connection, address = opened.accept()
                stack.enter_context(connection)
                accepted.append(address[0])
        assert accepted == ["127.0.0.2"] * 3 + ["127.0.0.3"]
        assert received(flood[3]) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_with_problem_details(served: Callable[..., Any], sent: bytes) -> None:
    with served(Limits()) as port, connected(port) as connection:
        connection.sendall(sent)
        problem = problem_of(received(connection))
        assert (problem["status"], problem["title"], problem["type"]) == (400, "Bad Request", "about:blank")
        assert problem["detail"]


def test_chunks_that_are_none_after_the_response_are_no_failure(
    served: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with served(Limits()) as port, connected(port) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = connection.recv(65_536)
        connection.sendall(b"no chunk\r\n")
        assert status_of(answer + received(connection)) == 404
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server and of a client that trusts it."""
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, ssl.create_default_context(cafile=str(certificate))


def test_a_handshake_that_does_not_begin_is_given_up(served: Callable[..., Any], tls: tuple[Any, ...]) -> None:
    with served(QUICK, tls[0]) as port, connected(port) as connection:
        assert received(connection) == b""


def test_connections_without_a_handshake_give_way_as_well(served: Callable[..., Any], tls: tuple[Any, ...]) -> None:
    with served(FEW, tls[0]) as port, ExitStack() as stack:
        idle = [stack.enter_context(connected(port)) for _ in range(10)]
        with tls[1].wrap_socket(connected(port), server_hostname="localhost") as connection:
            connection.sendall(GET + b"\r\n" + WHOLE)
            assert received(connection).count(b"HTTP/1.1 200") == 2
        assert received(idle[0]) == b""
        with connected(port) as plain:
            plain.sendall(WHOLE)
            assert b"HTTP" not in received(plain)
