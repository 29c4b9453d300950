"""Follows what goes on in a run: where it stands, and what it writes, past broken connections and a server's restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from nas.api.schemas import Export, ModelMeasurement, RunSummary
from nas.client.errors import RefusedError, UnreachableError
from nas.client.events import parse_events
from nas.client.transport import BUSY, Transport
from nas.errors import ServiceError

Task = TypeVar("Task", Export, ModelMeasurement)
OnGone = Callable[[ServiceError], None]
"""Told, once each time, that a server which has answered before does so no more, and why; it is asked again."""

ENDED = frozenset({"finished", "failed", "cancelled"})
_POLL_S, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 0.5, 5.0
_TASK_POLL_S = 0.5
_FRUITLESS = 3
"""Streams in a row that end without a word: something between here and the server lets none through."""
_TOO_MANY = frozenset({429, 503})
"""Statuses of a server that takes no more watchers, and yet answers questions."""
_OVERLAP = 4000
"""Characters by which a log is known again after its server has cut off its beginning."""


class Patience:
    """For how long a server may be gone that has answered before.

    Args:
        seconds: so long; one that never answered is given up at once.
        clock: seconds, of any beginning.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.monotonic, *, on_gone: OnGone | None = None
    ) -> None:
        self._seconds, self._clock, self._on_gone = seconds, clock, on_gone
        self._answered: float | None = None
        self._pause = _FIRST_PAUSE_S

    def renew(self) -> None:
        """The server answers."""
        self._answered, self._pause = self._clock(), _FIRST_PAUSE_S

    def spend(self, error: ServiceError) -> float:
        """Seconds to wait before the server is asked again.

        Raises:
            ServiceError: the one given, when the patience is used up, or where waiting does not help.
        """
        may_pass = isinstance(error, UnreachableError) or (
            isinstance(error, RefusedError)
            and error.problem.status in BUSY  # a proxy whose server is started again, say
        )
        if not may_pass or self._answered is None or self._clock() - self._answered > self._seconds:
            raise error
        if self._on_gone is not None and self._pause == _FIRST_PAUSE_S:
            self._on_gone(error)
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE_S)
        return pause


class Watch:
    """Where a run stands, each time that this changes, until it has ended.

    By a stream of events; where it breaks, by another that goes on after the last event; where streams do not get
    through, by asking again and again.
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
                for summary in self._streamed() if streams else self._asked():
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
        """What one stream tells, until it ends."""
        after = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if self._last_event:
            after["Last-Event-ID"] = self._last_event
        opened = heard = False
        try:
            with self._transport.stream(f"{self._path}/events", headers=after) as answer:
                opened = True
                self._patience.renew()
                for event in parse_events(answer.iter_bytes()):
                    heard = True
                    self._patience.renew()
                    self._last_event = event.id or self._last_event
                    if event.retry_ms is not None:
                        self._pause = min(event.retry_ms / 1000, _LONGEST_PAUSE_S)
                    yield self._transport.understood(event.data.encode(), RunSummary)
        except RefusedError as error:
            if error.problem.status not in _TOO_MANY:
                raise
            opened = True
        finally:
            if opened:
                self._fruitless = 0 if heard else self._fruitless + 1

    def _asked(self) -> Iterator[RunSummary]:
        """What the server answers once."""
        summary = self._transport.get(f"{self._path}/status", RunSummary)
        self._patience.renew()
        yield summary


class LogFollower:
    """What a run's drivers write, piece by piece, until the run has ended and has no driver any more."""

    def __init__(self, transport: Transport, path: str, patience: Patience) -> None:
        self._transport, self._path, self._patience = transport, path, patience

    def __iter__(self) -> Iterator[str]:
        seen = Seen()
        while True:
            pause = _POLL_S
            try:
                # Where it stands comes first: what is written after that is in the log that is asked for then.
                summary = self._transport.get(f"{self._path}/status", RunSummary)
                new = seen.new_in(self._transport.read(f"{self._path}/logs").text)
                self._patience.renew()
                if new:
                    yield new
                if summary.status in ENDED and not summary.live:
                    return
            except ServiceError as error:
                pause = self._patience.spend(error)
            self._transport.wait(pause)


def finished(
    transport: Transport, task: Task, path: str, patience: Patience, on_change: Callable[[Task], None] | None
) -> Task:
    """A task once it has finished or failed.

    Args:
        task: as it stands now.
        path: where the server tells of it.
        on_change: told of the task now, and each time that it stands otherwise.
    """
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
    return task


class Seen:
    """How much of a growing text has been seen, whose beginning may be cut off."""

    def __init__(self) -> None:
        self._length, self._end = 0, ""

    def new_in(self, text: str) -> str:
        """What has not been seen of it; all of it, where nothing is known again."""
        start = self._length
        if text[start - len(self._end) : start] != self._end:
            found = text.rfind(self._end)
            start = 0 if found < 0 else found + len(self._end)
        self._length, self._end = len(text), text[-_OVERLAP:]
        return text[start:]
