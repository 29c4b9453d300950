"""The client of one server: every call of the API as a method."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx

from nas.service.client.result_calls import ResultCalls
from nas.service.client.run_calls import RunCalls
from nas.service.client.stored_calls import StoredCalls
from nas.service.client.transport import Transport


class NasClient(RunCalls, ResultCalls, StoredCalls):
    """A client of one server; safe to use from several threads; a context manager.

    Every call raises `nas.service.client.RefusedError` if the server rejects it (an unknown run included),
    `nas.service.client.UnreachableError` if no server answers, and their base `nas.errors.ServiceError` for values that no
    server accepts.

    Args:
        server: its URL, e.g. ``http://127.0.0.1:8700``.
        token: sent with every request; None sends none.
        wait: sleeps for a number of seconds.
        through: an httpx transport to use instead of the network.
    """

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        wait: Callable[[float], None] = time.sleep,
        through: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(Transport(server, token, wait=wait, through=through))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; idempotent."""
        self._transport.close()

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._transport.server

    @property
    def on_loopback(self) -> bool:
        """True if the server is on this machine."""
        return self._transport.on_loopback
