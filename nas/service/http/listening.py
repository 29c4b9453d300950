"""The listening socket of a server, which drops connections of an address that opens too many in a short time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from nas.errors import ServiceError
from nas.service.http.access import RateLimit, network_of
from nas.service.settings import ServiceSettings

BACKLOG = 2048
"""Connections that wait in the kernel."""
_MAX_DROPPED = 100
"""At once, before the event loop does something else."""


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
