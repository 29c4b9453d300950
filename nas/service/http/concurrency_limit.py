"""Limits how many expensive requests of one kind run at once, so that they leave threads and CPU time to all others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from nas.errors import TooManyError
from nas.service.people import current_caller

_T = TypeVar("_T")


class ConcurrencyLimit:
    """Runs calls in worker threads, a few at a time; the others wait without a thread.

    Args:
        subject: The requests, for errors, e.g. ``job files``.
        at_once: Number of calls that run at the same time.
        waiting: Number of calls that may wait.
        of_person: Number of calls of each person with a token that may run and wait.
    """

    def __init__(self, subject: str, *, at_once: int, waiting: int, of_person: int) -> None:
        self._subject, self._capacity, self._of_person = subject, at_once + waiting, of_person
        self._open = Counter[str]()
        self._semaphore = asyncio.Semaphore(at_once)

    async def run(self, request: Request, call: Callable[[], _T]) -> _T:
        """The result of a call.

        Args:
            request: the request that needs it.

        Raises:
            TooManyError: too many wait already.
            ClientDisconnect: the request's client has closed its connection while it waited.
        """
        person = current_caller().name
        n, n_of_person = self._open.total(), self._open[person]
        if n >= self._capacity or (person and n_of_person >= self._of_person):
            shown = f"{n} {self._subject}" if n >= self._capacity else f"{n_of_person} {self._subject} of {person}"
            raise TooManyError(f"{shown} are being read, the limit; send it again in a few seconds")
        self._open[person] += 1
        try:
            async with self._semaphore:
                if await request.is_disconnected():
                    raise ClientDisconnect
                return await run_in_threadpool(call)
        finally:
            self._open[person] -= 1
