"""Limits how many expensive requests of one kind run at once, so that they leave threads and CPU time to all others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from nas.errors import TooManyError

_T = TypeVar("_T")


class ConcurrencyLimit:
    """Runs calls in worker threads, a few at a time; the others wait without a thread.

    Args:
        subject: The requests, for errors, e.g. ``job files``.
        at_once: Number of calls that run at the same time.
        waiting: Number of calls that may wait.
    """

    def __init__(self, subject: str, *, at_once: int, waiting: int) -> None:
        self._subject, self._capacity, self._open = subject, at_once + waiting, 0
        self._semaphore = asyncio.Semaphore(at_once)

    async def run(self, request: Request, call: Callable[[], _T]) -> _T:
        """The result of a call.

        Args:
            request: the request that needs it.

        Raises:
            TooManyError: too many wait already.
            ClientDisconnect: the request's client has closed its connection while it waited.
        """
        if self._open >= self._capacity:
            raise TooManyError(
                f"{self._open} {self._subject} are being read, the limit; send it again in a few seconds"
            )
        self._open += 1
        try:
            async with self._semaphore:
                if await request.is_disconnected():
                    raise ClientDisconnect
                return await run_in_threadpool(call)
        finally:
            self._open -= 1
