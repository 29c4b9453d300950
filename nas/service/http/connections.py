"""Limits of connections: their rate and number by address, and how long a client may take to send and to read.

Options of ASGI servers do not replace it. Tried with 2,100 idle connections of one address, 20 heads that grow by a line each
second and 5 clients that read nothing: uvicorn 0.54 (`limit_concurrency`) and granian 2.8 (`backpressure`) count the
connections of all addresses together, so that the idle ones keep everyone else out; hypercorn 0.18 has no such limit, and runs
out of files. uvicorn keeps the heads open, and all three the clients that read nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from nas.errors import ServiceError
from nas.service.api.schemas import Problem
from nas.service.http.access import RateLimit, network_of
from nas.service.http.problems import make_problem, response_of
from nas.service.http.security import HEADERS
from nas.service.settings import Limits, ServiceSettings

BACKLOG = 2048
"""Connections that wait in the kernel."""
_MAX_DROPPED = 100
"""At once, before the event loop does something else."""
_FLUSH_S = 5.0
"""For the last bytes of a connection that is being closed."""


class ListeningSocket(socket.socket):
    """Accepts a client's connections up to a rate, with bursts, and drops the others.

    Dropped here, before anything is created for it, a connection costs a fraction of the CPU time that it would cost later.

    Args:
        per_minute: connections of one address.
    """

    def __init__(self, family: int, kind: int, per_minute: int) -> None:
        super().__init__(family, kind)
        self._rate = RateLimit(per_minute)

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """The next connection within the rate, and its address.

        Raises:
            BlockingIOError: there is none now.
        """
        for _ in range(_MAX_DROPPED):
            connection, address = super().accept()
            if self._rate.allows(network_of(str(address[0]))):
                return connection, address
            connection.close()
        raise BlockingIOError


@contextmanager
def listening(settings: ServiceSettings) -> Iterator[ListeningSocket]:
    """A socket at the server's address.

    Raises:
        ServiceError: the address is unknown or in use.
    """
    where = f"{settings.host}, port {settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        opened = ListeningSocket(family, kind, settings.limits.requests_per_minute)
    except OSError as error:
        text = f"{where}: no address to listen on ({error}); choose another with --host"
        raise ServiceError(text, code="server.address-unusable") from None
    with opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
        except OSError as error:
            text = f"{where}: cannot be listened on ({error.strerror}); choose another with --port"
            raise ServiceError(text, code="server.address-unusable") from None
        opened.listen(BACKLOG)
        yield opened


class _Phase(Enum):
    """The event that a connection waits for."""

    HEAD = auto()
    """The rest of a request's head, or the TLS handshake before it."""
    RESPONSE = auto()
    """The application, which reads the body and responds."""
    REST = auto()
    """The rest of a body whose response is complete."""
    NEXT = auto()
    """The first byte of a further request."""


class OpenConnections:
    """The open connections of a server, by address.

    A new connection takes the place of the oldest one that has no request, of its own address where that has too many, else of
    the address that has most. So idle connections never keep others out.
    """

    def __init__(self, max_connections: int, max_per_address: int) -> None:
        self._max_connections, self._max_per_address = max_connections, max_per_address
        self._open: dict[str, set[BoundedProtocol]] = {}
        self._idle: dict[str, dict[BoundedProtocol, None]] = {}  # ordered: the oldest first
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, connection: BoundedProtocol) -> Problem | None:
        """Adds a connection; why it is rejected, or None."""
        address = connection.address
        problem = None
        if len(self._open.get(address, ())) >= self._max_per_address and not self._replace(address):
            problem = make_problem(429, f"{self._max_per_address} requests from your address are open, the limit")
        elif self._n >= self._max_connections:
            crowded = max(self._idle, key=lambda candidate: len(self._open[candidate]), default=None)
            if crowded is None or not self._replace(crowded):
                problem = make_problem(503, "the server has too many open requests; send it again in a few seconds")
        self._open.setdefault(address, set()).add(connection)
        self._n += 1
        return problem

    def remove(self, connection: BoundedProtocol) -> None:
        """Removes a connection that is closed; one that is not there is ignored."""
        self.busy(connection)
        of_address = self._open.get(connection.address, set())
        if connection in of_address:
            of_address.remove(connection)
            self._n -= 1
            if not of_address:
                del self._open[connection.address]

    def idle(self, connection: BoundedProtocol) -> None:
        """Records that an open connection has no request from now on."""
        if connection in self._open.get(connection.address, ()):
            self._idle.setdefault(connection.address, {})[connection] = None

    def busy(self, connection: BoundedProtocol) -> None:
        """Records that a connection has a request."""
        of_address = self._idle.get(connection.address, {})
        of_address.pop(connection, None)
        if not of_address:
            self._idle.pop(connection.address, None)

    def _replace(self, address: str) -> bool:
        """Closes the oldest idle connection of an address, if there is one."""
        oldest = next(iter(self._idle.get(address, ())), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.abort()
        return True


class BoundedProtocol(H11Protocol):
    """One connection, as uvicorn serves it, with deadlines; errors of HTTP itself are problem details.

    The deadlines of a request's head, of the handshake and of the rest of a body are not moved by data that arrive: a client
    that sends one byte now and then is closed as well. `BodyLimits` has the deadline of a body that the application reads.

    Args:
        tls: the server's certificate. The handshake is part of the connection here, not of the listening socket, so that
            connections that never begin it are counted.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: OpenConnections,
        limits: Limits,
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.address = ""
        self._all, self._limits, self._tls = connections, limits, tls
        self._socket: asyncio.Transport | None = None
        self._begun, self._early = False, b""
        self._phase: _Phase | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._socket = transport
        self.address = network_of(str((transport.get_extra_info("peername") or [""])[0]))
        problem = self._all.add(self)
        if self._tls is None:
            self._begin(transport)
        if problem is None:
            self._enter(_Phase.HEAD)
            if self._tls is not None:
                self._handshake = self.loop.create_task(self._secure(transport, self._tls))
        elif self._begun:
            self._reject(problem)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._begun:  # a client may send its request with the end of the handshake
            self._early += data
            return
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self._limits.unread_s, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._unread)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(_FLUSH_S, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._socket = None
        if self._begun:
            super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Rejects what is no request; called while its error is handled."""
        self._reject(make_problem(400, f"this is no valid HTTP request: {sys.exception() or msg}"))

    def abort(self) -> None:
        """Closes the connection at once."""
        if self._socket is not None:
            self._socket.abort()

    def _begin(self, transport: asyncio.Transport) -> None:
        self._begun = True
        super().connection_made(transport)

    async def _secure(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        secured: asyncio.Transport | None = None
        with suppress(OSError):  # also what is no TLS: nothing that this client could read can be sent
            secured = await self.loop.start_tls(
                transport, self, tls, server_side=True, ssl_handshake_timeout=self._limits.head_s
            )
        if secured is None or self._socket is None:  # closed meanwhile
            self._forget()
            return
        self._begin(secured)
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def _forget(self) -> None:
        self._all.remove(self)
        _cancel(self._deadline)
        _cancel(self._unread)

    def _look(self) -> None:
        """Enters the phase that the connection is in now."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._enter(_Phase.RESPONSE)
        elif self.conn.their_state is not h11.IDLE:
            self._enter(_Phase.REST)
        else:
            started = self.cycle is None or bool(self.conn.trailing_data[0])
            self._enter(_Phase.HEAD if started else _Phase.NEXT)

    def _enter(self, phase: _Phase) -> None:
        if phase is self._phase:
            return
        self._phase = phase
        _cancel(self._deadline)
        if phase in (_Phase.HEAD, _Phase.REST):  # uvicorn limits NEXT
            self._deadline = self.loop.call_later(self._limits.head_s, self._expire)
        if phase is _Phase.RESPONSE:
            self._all.busy(self)
        else:
            self._all.idle(self)

    def _expire(self) -> None:
        if self._phase is _Phase.HEAD and self._begun and self.conn.trailing_data[0]:
            self._reject(make_problem(408, f"the head of the request was not received in {self._limits.head_s:g} s"))
        else:
            self.abort()

    def _reject(self, problem: Problem) -> None:
        """Sends problem details, if nothing of a response was sent, and closes the connection."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application's response would follow
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = response_of(problem, {**HEADERS, "Connection": "close"})
            phrase = HTTPStatus(problem.status).phrase.encode()
            head = h11.Response(status_code=problem.status, headers=answer.raw_headers, reason=phrase)
            for part in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
        self.transport.close()
        self.loop.call_later(_FLUSH_S, self.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
