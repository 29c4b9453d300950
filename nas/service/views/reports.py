"""Reports of runs, kept in memory until their stores change."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nas.analysis.report import RunReport
from nas.engine.run import Run
from nas.service.views.run_status import Stamp, fresh
from nas.store.folder import RunsFolder

_MOST_NETWORKS = 60_000
"""Of all reports that are kept; a network of 45 genes takes 1.2 KiB, and 1.9 once a point is made of it."""
_ELSEWHERE_S = 3.0
"""How long what was read of a database without files of its own is taken for what it says now."""

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    stamp: Stamp | None
    read: float
    begun: float
    value: T


class Stamped(Generic[T]):
    """Values made of runs' stores, each kept until its store changes; safe to use from several threads.

    Args:
        make: reads a run; the second argument is a key of the caller's own.
        most: weight of all values that are kept; the one that was asked for least recently goes first.
        weigh: what a value weighs.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        runs: RunsFolder,
        make: Callable[[Run, str | None], T],
        *,
        most: int,
        weigh: Callable[[T], int] = lambda value: 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runs, self._make, self._clock = runs, make, clock
        self._most, self._weigh, self._weight = most, weigh, 0
        self._entries: OrderedDict[tuple[str, str | None], _Entry[T]] = OrderedDict()
        self._making: dict[tuple[str, str | None], threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, run: str, key: str | None = None) -> T:
        """The value of a run as its store is now, or was after this was called: several that ask at once share one.

        Raises:
            UnknownNameError: there is no such run.
        """
        opened, asked = Run.open(self._runs, run), time.monotonic()
        place = (run, key)
        with self._lock:
            making = self._making.setdefault(place, threading.Lock())
        with making:
            now, stamp = self._clock(), Stamp.of(opened.folder.database)
            with self._lock:
                entry = self._entries.get(place)
                if entry is not None and (entry.begun > asked or _unchanged(entry, stamp, now)):
                    self._entries.move_to_end(place)
                    return entry.value
            begun = time.monotonic()
            try:
                value = self._make(opened, key)
            except BaseException:
                with self._lock:
                    if place not in self._entries:  # keys are whatever clients ask for
                        self._making.pop(place, None)
                raise
            with self._lock:
                self._keep(place, _Entry(stamp, now, begun, value))
            return value

    def _keep(self, place: tuple[str, str | None], entry: _Entry[T]) -> None:
        before = self._entries.pop(place, None)
        self._weight += self._weigh(entry.value) - (0 if before is None else self._weigh(before.value))
        self._entries[place] = entry
        while self._weight > self._most and len(self._entries) > 1:
            oldest, dropped = self._entries.popitem(last=False)
            self._weight -= self._weigh(dropped.value)
            self._making.pop(oldest, None)


def _unchanged(entry: _Entry[T], stamp: Stamp | None, now: float) -> bool:
    if stamp is None:
        return entry.stamp is None and fresh(entry.read, now, _ELSEWHERE_S)
    return entry.stamp == stamp and stamp.settled(entry.read)


def kept_reports(runs: RunsFolder) -> Stamped[RunReport]:
    """Reports by run and hardware profile (None: the joint one)."""
    return Stamped(runs, lambda run, profile: run.report_of(profile), most=_MOST_NETWORKS, weigh=_networks_in)


def _networks_in(report: RunReport) -> int:
    return 1 + len(report.evaluated) + len(report.predicted)
