"""Waits for what is away for a while: a board, or a database server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

WAIT_MINUTES = 10.0
"""Default of a profile and of a database server: a board or a server that restarts is back by then."""
MAX_WAIT_MINUTES = 7 * 24 * 60
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses before the first retries; the last one is repeated."""
_DAY_S = 20 * 3600.0
"""A time of day is unambiguous for this long."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that has begun.

    Attributes:
        subject: Name of what is waited for: of a profile, or of a database server.
        since: When it was first away, in seconds since the epoch.
        until: When the wait ends, likewise.
        reason: What showed that it is away.
    """

    subject: str
    since: float
    until: float
    reason: str

    def __str__(self) -> str:
        since, until = time_of_day(self.since), time_of_day(self.until)
        return f"waits for {self.subject} since {since}, until {until} ({self.reason})"


class Patience:
    """Repeats an attempt while what it needs is away, for a limited time.

    Args:
        subject: Name of what may be away.
        minutes: Longest wait, in minutes; 0 makes one attempt.
        on_wait: Receives the text of a wait when it begins.
        on_wait_end: Is called when a wait ends, however it does.
        clock: Seconds since the epoch.
        sleep: Pauses for a number of seconds.
    """

    def __init__(
        self,
        subject: str,
        minutes: float,
        *,
        on_wait: Callable[[str], None] | None = None,
        on_wait_end: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._subject, self._limit_s, self._clock, self._sleep = subject, 60 * minutes, clock, sleep
        self._on_wait, self._on_wait_end = on_wait, on_wait_end

    def repeat(self, attempt: Callable[[], T], reason_to_wait: Callable[[Exception], str]) -> T:
        """The result of the first attempt that raises nothing.

        Args:
            reason_to_wait: Returns why an error may pass, in a few words; "" for one that is raised at once.

        Raises:
            Exception: The last attempt's error, with the wait, if there was one, as its attribute ``wait``.
        """
        wait: Wait | None = None
        n_pauses = 0
        try:
            while True:
                try:
                    return attempt()
                except Exception as error:
                    if not self._limit_s or not (reason := reason_to_wait(error)):
                        raise
                    now = self._clock()
                    if wait is None:
                        wait = Wait(self._subject, now, now + self._limit_s, reason)
                        if self._on_wait is not None:
                            self._on_wait(str(wait))
                    if now >= wait.until:
                        error.wait = wait  # type: ignore[attr-defined]  # errors of other packages do not declare it
                        raise
                    self._sleep(min(_PAUSES_S[min(n_pauses, len(_PAUSES_S) - 1)], wait.until - now))
                    n_pauses += 1
        finally:
            if wait is not None and self._on_wait_end is not None:
                self._on_wait_end()


def time_of_day(seconds: float) -> str:
    """A local time, as ``12:03``, or ``Dec 01 12:03`` where it is not within a day from now.

    Args:
        seconds: Seconds since the epoch.
    """
    near = abs(time.time() - seconds) < _DAY_S
    return time.strftime("%H:%M" if near else "%b %d %H:%M", time.localtime(seconds))
