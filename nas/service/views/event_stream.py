"""Streams of server-sent events with the status of runs; each run is polled once for all of its subscribers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from starlette.concurrency import run_in_threadpool

from nas.errors import StoreError, TooManyError, UnknownNameError
from nas.service.api.schemas import ENDED, RunSummary
from nas.service.people import current_caller

_INTERVAL_S = 0.5
_KEEP_ALIVE_S = 15.0
"""Without a change for this long, a comment is sent, which keeps the connection open."""
_RETRY_MS = 2000

logger = logging.getLogger(__name__)


@dataclass
class _Topic:
    """A run with subscribers.

    Attributes:
        submitted: when the run was submitted; of another time is another run of the same id, after a deletion.
        frame: the last event, encoded once for all subscribers.
        over: no other event follows.
        changed: set, and replaced, at each change.
    """

    submitted: datetime | None
    subscribers: int = 0
    frame: bytes = b""
    over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, frame: bytes, *, over: bool) -> None:
        if frame != self.frame or over != self.over:
            self.frame, self.over = frame, over
            self.changed.set()
            self.changed = asyncio.Event()


class EventStreams:
    """The event streams of one server; used within one event loop.

    Args:
        look: the status of a run; called in another thread.
        max_streams: Number of streams at once.
        max_of_person: Number of them of each person with a token.
        changed: called with the number of streams when it changes.
    """

    def __init__(
        self,
        look: Callable[[str], RunSummary],
        *,
        max_streams: int,
        max_of_person: int,
        changed: Callable[[int], None] = lambda n: None,
        interval_s: float = _INTERVAL_S,
        keep_alive_s: float = _KEEP_ALIVE_S,
    ) -> None:
        self._look, self._changed = look, changed
        self._max_streams, self._max_of_person = max_streams, max_of_person
        self._interval_s, self._keep_alive_s = interval_s, keep_alive_s
        self._topics: dict[str, _Topic] = {}
        self._open = Counter[str]()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    def follow(self, run: str, first: RunSummary) -> AsyncIterator[bytes]:
        """Server-sent events: the status of a run now, and after each change, until it has ended.

        Args:
            first: its status now.

        Raises:
            TooManyError: the limit of streams, or of the caller's, is reached.
        """
        person = current_caller().name
        n, n_of_person = self._open.total(), self._open[person]
        if person and n_of_person >= self._max_of_person:
            raise TooManyError(f"{person} has {n_of_person} event streams open, the limit; poll the status instead")
        if n >= self._max_streams:
            raise TooManyError(f"{n} event streams are open already, the limit; poll the status instead")
        return self._events(run, first, person)

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        for topic in self._topics.values():
            topic.publish(topic.frame, over=True)

    async def _events(self, run: str, first: RunSummary, person: str) -> AsyncIterator[bytes]:
        topic = self._topics.get(run)
        if topic is not None and topic.submitted != first.submitted:
            topic.publish(topic.frame, over=True)
        if topic is None or topic.over:  # it had ended, as its last subscribers are still reading, and was resumed
            topic = self._topics[run] = _Topic(first.submitted)
            topic.publish(_frame(first), over=first.status in ENDED)
        topic.subscribers += 1
        self._count(person, 1)
        try:
            yield f"retry: {_RETRY_MS}\n\n".encode()
            sent_frame = b""
            while not self._closed:
                changed, frame, over = topic.changed, topic.frame, topic.over
                if frame != sent_frame:
                    sent_frame = frame
                    yield frame
                if over:
                    return
                self._keep_polling()
                try:
                    await asyncio.wait_for(changed.wait(), self._keep_alive_s)
                except TimeoutError:
                    yield b": nothing has changed\n\n"
        finally:
            self._count(person, -1)
            topic.subscribers -= 1
            if topic.subscribers == 0 and self._topics.get(run) is topic:
                del self._topics[run]

    def _count(self, person: str, more: int) -> None:
        self._open[person] += more
        self._changed(self._open.total())

    def _keep_polling(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while self._topics and not self._closed:
            await asyncio.sleep(self._interval_s)
            open_ = [run for run, topic in self._topics.items() if not topic.over]
            for run, summary in (await run_in_threadpool(self._look_at, open_)).items():
                topic = self._topics.get(run)
                if topic is None:
                    continue
                if summary is None or topic.submitted not in (None, summary.submitted):
                    topic.publish(topic.frame, over=True)
                else:
                    topic.publish(_frame(summary), over=summary.status in ENDED)

    def _look_at(self, runs: Sequence[str]) -> Mapping[str, RunSummary | None]:
        """The status of runs; None for one that is gone. One that cannot be read now is left out."""
        summary_by_run: dict[str, RunSummary | None] = {}
        for run in runs:
            try:
                summary_by_run[run] = self._look(run)
            except UnknownNameError:
                summary_by_run[run] = None
            except StoreError as error:
                logger.warning("%s", error, extra={"run": run})
        return summary_by_run


def _frame(summary: RunSummary) -> bytes:
    data = summary.model_dump_json()
    return f"id: {hashlib.sha256(data.encode()).hexdigest()[:16]}\ndata: {data}\n\n".encode()
