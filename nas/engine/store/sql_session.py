"""A database session of one run: its transactions, and the lease under which a driver writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from sqlalchemy import Connection, Engine, delete, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from nas.engine.store import tables
from nas.engine.store.database import WRITES, Database, Lock
from nas.engine.store.lease import Holder
from nas.errors import RunHeldError, StoreError
from supernets.errors import SpaceError

_LEASE = select(tables.lease).with_for_update()
"""Made once: to make a statement takes SQLAlchemy longer than SQLite to run it."""


class SqlSession:
    """Transactions on a run's database; made by `open_reading` or `open_driving`.

    Args:
        lock: the run's lock, released by `close`; None where the engine needs none.
        clock: seconds since the epoch.
    """

    def __init__(self, database: Database, engine: Engine, *, lock: Lock | None, clock: Callable[[], float]) -> None:
        self.name, self.engine = database.name, engine
        self._database, self._lock, self._clock = database, lock, clock
        self._writer = engine.execution_options(**{WRITES: True})
        self._lease: int | None = None  # the number that every write must find in the database; None: it only reads
        self._closed = False

    @classmethod
    def open_reading(cls, database: Database, *, clock: Callable[[], float]) -> Self:
        """A session that cannot write, also beside a live driver."""
        session = cls(database, database.reading_engine(), lock=None, clock=clock)
        with session._translated(), session.engine.connect() as connection:
            session._check_run(connection)
            tables.SCHEMA.check(connection, name=session.name)
        return session

    @classmethod
    def open_driving(cls, database: Database, *, create: bool, clock: Callable[[], float]) -> Self:
        """A session with the run's lease, on tables of this version."""
        holder = Holder.this()
        lock = database.lock(holder)
        session = cls(database, database.writing_engine(create=create), lock=lock, clock=clock)
        try:
            with session._translated():
                session._make_or_upgrade(create=create)
                session._take_lease(holder)
        except BaseException:
            session.close()
            raise
        return session

    def close(self) -> None:
        """Closes the database, then frees the lease; idempotent."""
        self._closed = True
        self.engine.dispose()
        if self._lock is not None:
            self._lock.release()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view; a row that cannot be decoded is damage."""
        with self._translated(), self.engine.connect() as connection:
            try:
                yield connection
            except (ValueError, TypeError, KeyError, SpaceError) as error:
                raise StoreError(
                    f"{self.name}: holds a row that no run writes ({error}); restore a copy, or start a new run",
                    code="store.damaged",
                ) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction under the lease, committed at its end."""
        if self._lease is None:
            raise StoreError(
                f"{self.name}: was opened for reading; open it as the run's driver to write", code="store.read-only"
            )
        with self._translated(), self._writer.begin() as connection:
            self._check_lease(connection)
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns the database's errors into those of this run."""
        if self._closed:
            raise StoreError(f"{self.name}: was closed; open it again", code="store.closed")
        try:
            yield
        except DBAPIError as error:
            raise self._database.error_of(error) from error

    def _check_lease(self, connection: Connection) -> None:
        # In the writing transaction itself (FOR UPDATE where the database has it), so that no takeover comes between.
        lease_row = connection.execute(_LEASE).one_or_none()
        if lease_row is None or lease_row.number != self._lease:
            holder_text = "another driver" if lease_row is None else str(Holder(lease_row.pid, lease_row.host))
            raise RunHeldError(
                f"{self.name}: the run was taken over by {holder_text}, so this driver writes no more (what it committed is "
                "kept); let the other one finish, or stop it and resume the run",
                code="run.taken-over",
            )

    def _take_lease(self, holder: Holder) -> None:
        with self._writer.begin() as connection:
            last: int | None = connection.execute(select(tables.lease.c.number).with_for_update()).scalar_one_or_none()
            number = (last or 0) + 1
            connection.execute(delete(tables.lease))
            row = {"id": 1, "number": number, "pid": holder.pid, "host": holder.host, "time": self._clock()}
            connection.execute(insert(tables.lease).values(**row))
        self._lease = number

    def _make_or_upgrade(self, *, create: bool) -> None:
        """Makes the tables of an empty database, or migrates those of an earlier version, all or none."""
        if damage := self._database.damage(self.engine):
            raise StoreError(
                f"{self.name}: is damaged ({damage}); restore it from a copy, or start a new run", code="store.damaged"
            )
        with self._writer.begin() as connection:
            if create:
                self._database.prepare(connection)
                if not inspect(connection).get_table_names(schema=self._database.schema):
                    tables.SCHEMA.make(connection)
            self._check_run(connection)
            self._database.enter(connection)
            tables.SCHEMA.upgrade(connection, name=self.name)

    def _check_run(self, connection: Connection) -> None:
        if not inspect(connection).has_table(tables.version.name, schema=self._database.schema):
            raise StoreError(
                f"{self.name}: holds no run (its making was interrupted, or it is another program's database); "
                "start a new run",
                code="store.no-run",
            )
