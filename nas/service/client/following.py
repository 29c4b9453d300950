"""Follows the status and the log of a run across broken connections and server restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from httpx_sse import EventSource

from nas.errors import ServiceError
from nas.service.api.schemas import Export, JobPlan, ModelMeasurement, RunSummary
from nas.service.client.errors import RefusedError, UnreachableError
from nas.service.client.transport import BUSY, Transport

Task = TypeVar("Task", Export, ModelMeasurement, JobPlan)
OnGone = Callable[[ServiceError], None]
"""Called once when a server that has answered becomes unreachable, with the error; it is asked again."""

PATIENCE_S = 300.0
"""Seconds that a server may be gone while a run or a task is followed, e.g. while it is restarted."""
ENDED = frozenset({"finished", "failed", "cancelled"})
_POLL_S, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 0.5, 5.0
_TASK_POLL_S = 0.5
_FRUITLESS = 3
"""Consecutive streams without an event after which the client polls: a proxy does not pass streams on."""
_TOO_MANY = frozenset({429, 503})
"""Statuses of a server that accepts no more streams but still answers requests."""
_OVERLAP = 4000
"""Characters that identify the last position in a log whose beginning the server has dropped."""


class Patience:
    """Retry policy for a server that has answered before and becomes unreachable.

    Args:
        seconds: time after the last answer until the error is raised; immediately if the server never answered.
        clock: monotonic seconds.
    """

    def __init__(
        self, seconds: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic, *, on_gone: OnGone | None = None
    ) -> None:
        self._seconds, self._clock, self._on_gone = seconds, clock, on_gone
        self._answered: float | None = None
        self._pause = _FIRST_PAUSE_S

    def renew(self) -> None:
        """Records an answer of the server."""
        self._answered, self._pause = self._clock(), _FIRST_PAUSE_S

    def spend(self, error: ServiceError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            ServiceError: the given error, if the time is used up or waiting does not help.
        """
        may_pass = isinstance(error, UnreachableError) or (
            isinstance(error, RefusedError) and error.problem.status in BUSY  # e.g. a proxy whose server restarts
        )
        if not may_pass or self._answered is None or self._clock() - self._answered > self._seconds:
            raise error
        if self._on_gone is not None and self._pause == _FIRST_PAUSE_S:
            self._on_gone(error)
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE_S)
        return pause


class Watch:
    """The status of a run after each change, until the run has ended.

    Reads server-sent events, reconnects after the last event, and polls if no stream gets through.
    """

    def __init__(self, transport: Transport, path: str, patience: Patience) -> None:
        self._transport, self._path, self._patience = transport, path, patience
        self._last_event = ""
        self._fruitless = 0
        self._pause = _FIRST_PAUSE_S

    def __iter__(self) -> Iterator[RunSummary]:
        last: RunSummary | None = None
        while True:
            streams = self._fruitless < _FRUITLESS
            try:
                for summary in self._streamed() if streams else self._polled():
                    if summary != last:
                        last = summary
                        yield summary
                    if summary.status in ENDED:
                        return
                pause = self._pause if streams else _POLL_S
            except ServiceError as error:
                pause = self._patience.spend(error)
            self._transport.wait(pause)

    def _streamed(self) -> Iterator[RunSummary]:
        """The summaries of one stream, until it ends."""
        after = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if self._last_event:
            after["Last-Event-ID"] = self._last_event
        opened = heard = False
        try:
            with self._transport.stream(f"{self._path}/events", headers=after) as answer:
                opened = True
                self._patience.renew()
                if "text/event-stream" not in answer.headers.get("content-type", ""):
                    return  # a page of a proxy: counts as a stream without an event
                for event in EventSource(answer).iter_sse():
                    heard = True
                    self._patience.renew()
                    self._last_event = event.id or self._last_event
                    if event.retry is not None:
                        self._pause = min(event.retry / 1000, _LONGEST_PAUSE_S)
                    if event.data:
                        yield self._transport.understood(event.data.encode(), RunSummary)
        except RefusedError as error:
            if error.problem.status not in _TOO_MANY:
                raise
            opened = True
        finally:
            if opened:
                self._fruitless = 0 if heard else self._fruitless + 1

    def _polled(self) -> Iterator[RunSummary]:
        """The summary from one request."""
        summary = self._transport.get(f"{self._path}/status", RunSummary)
        self._patience.renew()
        yield summary


def followed_log(transport: Transport, path: str, patience: Patience) -> Iterator[str]:
    """The log of a run in pieces, until the run has ended and no driver holds it."""
    position = LogPosition()
    while True:
        pause = _POLL_S
        try:
            # The status first: lines written after it are in the log that is read next.
            summary = transport.get(f"{path}/status", RunSummary)
            new = position.new_in(transport.read(f"{path}/logs").text)
            patience.renew()
            if new:
                yield new
            if summary.status in ENDED and not summary.live:
                return
        except ServiceError as error:
            pause = patience.spend(error)
        transport.wait(pause)


def finished(
    transport: Transport, task: Task, path: str, on_change: Callable[[Task], None] | None, *, subject: str
) -> Task:
    """The task at a path of the API once it has finished; `on_change` is called now and after each change.

    Args:
        subject: The task in errors: ``RUN: the export``.

    Raises:
        ServiceError: it failed or was cancelled; the message gives the reason.
    """
    patience = Patience()
    patience.renew()
    if on_change is not None:
        on_change(task)
    while task.status in ("queued", "running"):
        transport.wait(_TASK_POLL_S)
        try:
            now = transport.get(path, type(task))
        except ServiceError as error:
            transport.wait(patience.spend(error))
            continue
        patience.renew()
        if on_change is not None and now != task:
            on_change(now)
        task = now
    if task.status == "finished":
        return task
    why = "was cancelled" if task.status == "cancelled" else f"failed: {task.reason or 'no reason is known'}"
    raise ServiceError(f"{subject} {why}")


class LogPosition:
    """The position read so far in a growing text whose beginning may be dropped."""

    def __init__(self) -> None:
        self._length, self._end = 0, ""

    def new_in(self, text: str) -> str:
        """The unread part; all of the text if the last position is not found."""
        start = self._length
        if text[start - len(self._end) : start] != self._end:
            match_start = text.rfind(self._end)
            start = 0 if match_start < 0 else match_start + len(self._end)
        self._length, self._end = len(text), text[-_OVERLAP:]
        return text[start:]
