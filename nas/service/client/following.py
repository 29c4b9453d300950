"""Follows the status and the log of a run across broken connections and server restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from nas.errors import ServiceError
from nas.service.api.schemas import ENDED, Artifact, Export, JobPlan, ModelMeasurement, RunSummary
from nas.service.client.errors import RefusedError, UnreachableError
from nas.service.client.transport import BUSY, Transport

Answer = TypeVar("Answer")
Task = TypeVar("Task", Export, Artifact, ModelMeasurement, JobPlan)
OnGone = Callable[[ServiceError], None]
"""Called once when a server that has answered becomes unreachable, with the error; it is asked again."""

PATIENCE_S = 300.0
"""Seconds that a server may be gone while a run or a task is followed, e.g. while it is restarted."""
_POLL_S, _TASK_POLL_S = 1.0, 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0
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


def polled(
    fetch: Callable[[], Answer], patience: Patience, wait: Callable[[float], None], *, pause_s: float = _POLL_S
) -> Iterator[Answer]:
    """The answers to the same requests, again and again, across broken connections and restarts of the server.

    Args:
        fetch: sends the requests.
        wait: sleeps for a number of seconds.
    """
    while True:
        try:
            answer = fetch()
        except ServiceError as error:
            wait(patience.spend(error))
            continue
        patience.renew()
        yield answer
        wait(pause_s)


def watched(transport: Transport, path: str, patience: Patience) -> Iterator[RunSummary]:
    """The status of a run, now and after each change, until the run has ended."""
    last: RunSummary | None = None
    for summary in polled(lambda: transport.get(f"{path}/status", RunSummary), patience, transport.wait):
        if summary != last:
            last = summary
            yield summary
        if summary.status in ENDED:
            return


def followed_log(transport: Transport, path: str, patience: Patience) -> Iterator[str]:
    """The log of a run in pieces, until the run has ended and no driver holds it."""
    position = LogPosition()

    def read() -> tuple[RunSummary, str]:
        # The status first: lines written after it are in the log that is read next.
        return transport.get(f"{path}/status", RunSummary), transport.read(f"{path}/logs").text

    for summary, text in polled(read, patience, transport.wait):
        if new := position.new_in(text):
            yield new
        if summary.status in ENDED and not summary.live:
            return


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
    answers = polled(lambda: transport.get(path, type(task)), patience, transport.wait, pause_s=_TASK_POLL_S)
    while task.status not in ENDED:
        last, task = task, next(answers)
        if on_change is not None and task != last:
            on_change(task)
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
