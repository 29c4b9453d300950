"""Where runs stand, asked again and again: read from a run's database only where that has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from nas.engine.run_table import RunSnapshot, snapshot_of
from nas.errors import NasError, StoreAwayError
from nas.store.database import Database
from nas.store.folder import RunsFolder
from nas.store.opening import database_of
from nas.store.sql import SqlStore

_SETTLED_S = 0.1
"""File systems stamp a file with a clock that ticks every few milliseconds: a file changed so shortly ago may be changed
again and keep its stamp."""
_ELSEWHERE_S = 1.0
"""How long what was read of a database without files of its own is taken for what it says now."""
_AWAY_S = 30.0
"""Before a database server that did not answer, for which one waits long, is asked again."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes with every transaction: SQLite appends those to a file beside the database, and later moves them in.

    Attributes:
        files: inode, size and time of change of each of the two files; None for one that is empty or not there.
    """

    files: tuple[tuple[int, int, int] | None, ...]

    @classmethod
    def of(cls, database: Path) -> Stamp | None:
        """The stamp of a database now; None where it is no file."""
        files = tuple(_file(path) for path in (database, database.with_name(f"{database.name}-wal")))
        return None if files[0] is None else cls(files)

    def settled(self, now: float) -> bool:
        """Whether any later change gives another stamp; taken at the time ``now``, in seconds since the epoch."""
        return now > max(file[2] for file in self.files if file is not None) / 1e9 + _SETTLED_S


def fresh(read: float, now: float, seconds: float) -> bool:
    """Whether what was read at a time is not older than so much; not where the clock was set back since."""
    return read <= now < read + seconds


def _file(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    # A reader makes the second file, too, and leaves it empty.
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found.st_size else None


@dataclass(slots=True)
class _Known:
    """What was last read of one run."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    store: SqlStore | None = (
        None  # while it may change: opening costs more than reading; it keeps 60 KiB, but no file open
    )
    standing: RunSnapshot | None = None
    stamp: Stamp | None = None
    read: float = 0.0


class Standings:
    """Where the runs of one folder stand. Safe to use from several threads.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, runs: RunsFolder, *, clock: Callable[[], float] = time.time) -> None:
        self._runs, self._clock = runs, clock
        self._known: dict[str, _Known] = {}
        self._away: dict[str, float] = {}  # database servers, and when they did not answer

    def of(self, run: str) -> RunSnapshot:
        """Where a run stands now.

        Raises:
            UnknownNameError: there is no such run.
            StoreError: its database is damaged, or cannot be read now.
            StoreAwayError: its database's server does not answer, or did not a moment ago.
        """
        folder = self._runs.get(run)
        known = self._known.setdefault(run, _Known())
        with known.lock:
            now, stamp = self._clock(), Stamp.of(folder.database)
            if known.standing is not None and stamp is None and fresh(known.read, now, _ELSEWHERE_S):
                return known.standing
            database = database_of(folder)
            self._check_answers(database.server, now)
            held = database.is_held()  # before the store is read; see `snapshot_of`
            if known.standing is None or stamp is None or stamp != known.stamp:
                known.standing = self._read(database, known, held)
                known.stamp = stamp if stamp is not None and stamp.settled(now) else None
                known.read = now
            return replace(known.standing, held=held)

    def forget(self, run: str) -> None:
        """Drops what is known of a run that was removed."""
        self._known.pop(run, None)

    def _check_answers(self, server: str | None, now: float) -> None:
        """Raises where a server did not answer a moment ago; after that, one caller alone asks it again."""
        if server is None or server not in self._away:
            return
        if fresh(self._away[server], now, _AWAY_S):
            raise StoreAwayError(f"{server}: did not answer a moment ago; its runs cannot be read until it does")
        self._away[server] = now

    def _read(self, database: Database, known: _Known, held: bool) -> RunSnapshot:
        try:
            if known.store is None:
                known.store = SqlStore.open(database, create=False, driver=False)
            found = snapshot_of(known.store, held=held)
        except NasError as error:
            known.store = known.standing = None
            if database.server is not None and isinstance(error, StoreAwayError):
                self._away[database.server] = self._clock()
            raise
        if database.server is not None:
            self._away.pop(database.server, None)
        if not (found.open or held):
            known.store.close()
            known.store = None
        return found
