"""Streams where runs stand to any number of watchers: each run is looked at once, however many watch it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from nas.api.schemas import RunSummary
from nas.errors import StoreError, TooManyError, UnknownNameError

_INTERVAL_S = 0.5
_KEEP_ALIVE_S = 15.0
"""After so long without a change a comment is sent, so that neither side takes the other for gone."""
_RETRY_MS = 2000
_ENDED = ("finished", "failed", "cancelled")

logger = logging.getLogger(__name__)


@dataclass
class _Topic:
    """A run that is watched.

    Attributes:
        frame: the last event, encoded once for all watchers.
        over: nothing will follow.
        changed: set, and replaced, at each change.
    """

    watchers: int = 0
    frame: bytes = b""
    over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, frame: bytes, *, over: bool) -> None:
        if frame != self.frame or over != self.over:
            self.frame, self.over = frame, over
            self.changed.set()
            self.changed = asyncio.Event()


class EventStreams:
    """The watched runs of one server; used within one event loop.

    Args:
        look: where a run stands; called in another thread.
        most: watchers at once.
        changed: told of the number of watchers.
    """

    def __init__(
        self,
        look: Callable[[str], RunSummary],
        *,
        most: int,
        changed: Callable[[int], None] = lambda n: None,
        interval_s: float = _INTERVAL_S,
        keep_alive_s: float = _KEEP_ALIVE_S,
    ) -> None:
        self._look, self._most, self._told = look, most, changed
        self._interval_s, self._keep_alive_s = interval_s, keep_alive_s
        self._topics: dict[str, _Topic] = {}
        self._n = 0
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    def follow(self, run: str, first: RunSummary) -> AsyncIterator[bytes]:
        """Server-sent events: where a run stands now, and each time that it stands otherwise, until it has ended.

        Args:
            first: where it stands now.

        Raises:
            TooManyError: as many watch already as may.
        """
        if self._n >= self._most:
            raise TooManyError(f"{self._n} clients watch runs already, the limit; poll the status instead")
        return self._events(run, first)

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        for topic in self._topics.values():
            topic.tell(topic.frame, over=True)

    async def _events(self, run: str, first: RunSummary) -> AsyncIterator[bytes]:
        topic = self._topics.get(run)
        if topic is None or topic.over:  # its last watchers may still be reading that it had ended, and it was resumed
            topic = self._topics[run] = _Topic()
            topic.tell(_frame(first), over=first.status in _ENDED)
        topic.watchers += 1
        self._count(1)
        try:
            yield f"retry: {_RETRY_MS}\n\n".encode()
            seen = b""
            while not self._closed:
                changed, frame, over = topic.changed, topic.frame, topic.over
                if frame != seen:
                    seen = frame
                    yield frame
                if over:
                    return
                self._keep_polling()
                try:
                    await asyncio.wait_for(changed.wait(), self._keep_alive_s)
                except TimeoutError:
                    yield b": nothing has changed\n\n"
        finally:
            self._count(-1)
            topic.watchers -= 1
            if topic.watchers == 0 and self._topics.get(run) is topic:
                del self._topics[run]

    def _count(self, more: int) -> None:
        self._n += more
        self._told(self._n)

    def _keep_polling(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while self._topics and not self._closed:
            await asyncio.sleep(self._interval_s)
            open_ = [run for run, topic in self._topics.items() if not topic.over]
            for run, found in (await run_in_threadpool(self._look_at, open_)).items():
                topic = self._topics.get(run)
                if topic is None:
                    continue
                if found is None:
                    topic.tell(topic.frame, over=True)
                else:
                    topic.tell(_frame(found), over=found.status in _ENDED)

    def _look_at(self, runs: Sequence[str]) -> Mapping[str, RunSummary | None]:
        """Where runs stand; None for one that is gone. One that cannot be read now is left out."""
        found: dict[str, RunSummary | None] = {}
        for run in runs:
            try:
                found[run] = self._look(run)
            except UnknownNameError:
                found[run] = None
            except StoreError as error:
                logger.warning("%s", error, extra={"run": run})
        return found


def _frame(summary: RunSummary) -> bytes:
    data = summary.model_dump_json()
    return f"id: {hashlib.sha256(data.encode()).hexdigest()[:16]}\ndata: {data}\n\n".encode()
