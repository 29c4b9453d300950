"""Everything that is SQLite's alone: engines over one database file, and what its errors mean to a user."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError

from nas.engine.store import lease
from nas.engine.store.database import WRITES, Database
from nas.engine.store.json_values import decoded
from nas.engine.store.lease import Holder, RunLock, lock_path
from nas.errors import StoreError

_TIMEOUT_S = 30.0
"""How long a statement waits for another process's write to end; such writes take milliseconds."""


@dataclass(frozen=True)
class SqliteDatabase(Database):
    """A database in a file: of one run, with a lock file beside it, or of a server."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def check(self, *, create: bool) -> None:
        path = self.path
        if not path.parent.is_dir():
            raise StoreError(f"{path}: no such folder; check the run's name or make the folder", code="store.missing")
        if not path.exists() and not create:
            raise StoreError(f"{path}: no such file; check the run's name", code="store.missing")
        if path.exists() and not path.is_file():
            raise StoreError(f"{path}: is no regular file; expected the database of a run")

    def lock(self, holder: Holder) -> RunLock:
        return RunLock(lock_path(self.path), holder)

    def writing_engine(self, *, create: bool) -> Engine:
        """An engine in WAL mode with synchronous=NORMAL: a commit survives kill -9, no power cut."""

        def connect() -> sqlite3.Connection:
            connection = _connect(f"{self.path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}")
            try:
                for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
                    connection.execute(f"PRAGMA {pragma}")
            except sqlite3.Error:
                connection.close()
                raise
            return connection

        return _engine(connect, poolclass=QueuePool, json_serializer=partial(json.dumps, allow_nan=False))

    def reading_engine(self) -> Engine:
        """An engine that cannot write, over a database that another process may be writing.

        Every use opens the file anew, because how to open it depends on whether a writer is there.
        """

        def connect() -> sqlite3.Connection:
            # SQLite makes two files beside a WAL database even to read it. Where it cannot and no writer has made them, the
            # database is complete and nobody is changing it.
            path = self.path
            alone = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
            return _connect(f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}")

        return _engine(connect, poolclass=NullPool, json_deserializer=decoded)

    def damage(self, engine: Engine) -> str:
        with engine.connect() as connection:
            check_result = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
        return "" if check_result == "ok" else check_result

    def explain(self, error: DBAPIError) -> str:
        name = str(getattr(error.orig, "sqlite_errorname", ""))
        error_text = str(error.orig)
        # SQLite gives this error no name.
        if isinstance(error.orig, sqlite3.OperationalError) and error_text.startswith("Could not decode"):
            error_text = "a text in it is not UTF-8"
            name = "SQLITE_CORRUPT"
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return f"is damaged or no database of a run ({error_text}); restore it from a copy, or start a new run"
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
            return (
                f"cannot be opened or written ({error_text}); check that it and its folder exist and their permissions"
            )
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return f"cannot be read or written ({error_text}); check the free space and the health of its disk"
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return f"is locked by another process for more than {_TIMEOUT_S:g} s ({error_text}); stop that process"
        return f"holds other tables than a run's ({error_text}); give the path of a run, or start a new one"

    def is_held(self) -> bool:
        return lease.is_held(self.path)


def _connect(uri: str) -> sqlite3.Connection:
    # Without isolation_level=None, the driver would begin a transaction only at the first write: too late for the lease.
    return sqlite3.connect(uri, uri=True, timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _engine(connect: Callable[[], sqlite3.Connection], **settings: Any) -> Engine:
    engine = create_engine("sqlite://", creator=connect, **settings)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    writes: Any = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
