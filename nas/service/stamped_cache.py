"""A cache of values computed from runs' databases, each kept until its database changes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from nas.engine.store.folder import RunFolder

_SETTLED_S = 0.1
"""File systems take time stamps from a clock that ticks every few milliseconds: a file changed more recently than this may
change again and keep its stamp."""

FileStamp = tuple[int, int, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChangeStamp:
    """Changes with every transaction: SQLite appends those to a file beside the database, and later moves them into it.

    Attributes:
        files: of each of the two files.
    """

    files: tuple[FileStamp | None, ...]

    @classmethod
    def read(cls, database: Path) -> ChangeStamp | None:
        """The stamp of a database now; None where it is no file."""
        files = tuple(file_stamp(path) for path in (database, database.with_name(f"{database.name}-wal")))
        return None if files[0] is None else cls(files)

    def settled(self, now: float) -> bool:
        """True if any later change gives another stamp than this one, taken at ``now`` (seconds since the epoch)."""
        return now > max(file[2] for file in self.files if file is not None) / 1e9 + _SETTLED_S


def file_stamp(path: Path) -> FileStamp | None:
    """The inode, the size and the modification time (ns) of a file; None for one that is empty or missing."""
    try:
        file_stat = path.stat()
    except FileNotFoundError:
        return None
    # A connection that only reads creates the second file, too, and leaves it empty.
    return (file_stat.st_ino, file_stat.st_size, file_stat.st_mtime_ns) if file_stat.st_size else None


def fresh(read_at: float, now: float, seconds: float) -> bool:
    """True if a value that was read at ``read_at`` is younger than ``seconds``; False if the clock was set back since."""
    return read_at <= now < read_at + seconds


@dataclass(slots=True)
class _Entry(Generic[T]):
    stamp: ChangeStamp | None
    read_at: float
    begun: float
    value: T


class StampedCache(Generic[T]):
    """Values by run and key, each computed again once the run's database has changed. Safe to use from several threads.

    Args:
        make: computes the value of a run; the second argument is the key.
        max_weight: Weight of all cached values; the least recently used one is evicted first.
        weigh: weight of a value.
        remote_s: lifetime of a value whose database is not a file of the run's folder.
        rest_s: a value younger than this is given even if its database has changed since.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        make: Callable[[RunFolder, str | None], T],
        *,
        max_weight: int,
        weigh: Callable[[T], int] = lambda value: 1,
        remote_s: float = 3.0,
        rest_s: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._make, self._max_weight, self._weigh, self._clock = make, max_weight, weigh, clock
        self._remote_s, self._rest_s = remote_s, rest_s
        self._weight = 0
        self._entries: OrderedDict[tuple[str, str | None], _Entry[T]] = OrderedDict()
        self._making: dict[tuple[str, str | None], threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, folder: RunFolder, key: str | None = None) -> T:
        """The value for a run's database as it is now, or was after this call; concurrent calls share one computation."""
        called_at, place = time.monotonic(), (folder.id, key)
        with self._lock:
            making = self._making.setdefault(place, threading.Lock())
        with making:
            now, stamp = self._clock(), ChangeStamp.read(folder.database)
            with self._lock:
                entry = self._entries.get(place)
                if entry is not None and (entry.begun > called_at or self._unchanged(entry, stamp, now)):
                    self._entries.move_to_end(place)
                    return entry.value
            begun = time.monotonic()
            try:
                value = self._make(folder, key)
            except BaseException:
                with self._lock:
                    if place not in self._entries:  # clients choose the keys: there may be any number
                        self._making.pop(place, None)
                raise
            with self._lock:
                self._keep(place, _Entry(stamp, now, begun, value))
            return value

    def forget(self, run: str) -> None:
        """Drops the value of a run without a key: its database was changed here."""
        with self._lock:
            entry = self._entries.pop((run, None), None)
            self._weight -= 0 if entry is None else self._weigh(entry.value)

    def _unchanged(self, entry: _Entry[T], stamp: ChangeStamp | None, now: float) -> bool:
        if fresh(entry.read_at, now, self._rest_s):
            return True
        if stamp is None:
            return entry.stamp is None and fresh(entry.read_at, now, self._remote_s)
        return entry.stamp == stamp and stamp.settled(entry.read_at)

    def _keep(self, place: tuple[str, str | None], entry: _Entry[T]) -> None:
        before = self._entries.pop(place, None)
        self._weight += self._weigh(entry.value) - (0 if before is None else self._weigh(before.value))
        self._entries[place] = entry
        while self._weight > self._max_weight and len(self._entries) > 1:
            oldest, dropped = self._entries.popitem(last=False)
            self._weight -= self._weigh(dropped.value)
            self._making.pop(oldest, None)
