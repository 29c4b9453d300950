"""A database session of one run: its transactions, and the lease under which a driver writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self, TypeVar

from sqlalchemy import Connection, Engine, delete, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from hardware_profiles.waiting import Patience
from nas.engine.store import tables
from nas.engine.store.database import WRITES, Database, Lock
from nas.engine.store.lease import Holder
from nas.errors import RunHeldError, StoreAwayError, StoreError
from supernets.errors import SpaceError

_LEASE = select(tables.lease).with_for_update()
"""Made once: to make a statement takes SQLAlchemy longer than SQLite to run it."""

T = TypeVar("T")


class SqlSession:
    """Transactions on a run's database; made by `open_reading` or `open_driving`.

    Args:
        lock: the run's lock, released by `close`; None where the engine needs none.
        clock: seconds since the epoch.
        on_wait: Receives what is waited for while the server is away, and "" at the end; None waits for no server.
    """

    def __init__(
        self,
        database: Database,
        engine: Engine,
        *,
        lock: Lock | None,
        clock: Callable[[], float],
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self.name, self.engine = database.name, engine
        self._database, self._lock, self._clock = database, lock, clock
        minutes = 0.0 if on_wait is None else database.wait_minutes
        on_wait_end = None if on_wait is None else partial(on_wait, "")
        self._patience = Patience("the database server", minutes, on_wait=on_wait, on_wait_end=on_wait_end)
        self._was_reached = False
        number = database.transaction_number
        self._lease_query = _LEASE if number is None else _LEASE.add_columns(number.label("transaction"))
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
    def open_driving(
        cls,
        database: Database,
        *,
        create: bool,
        clock: Callable[[], float],
        on_wait: Callable[[str], None] | None = None,
    ) -> Self:
        """A session with the run's lease, on tables of this version."""
        holder = Holder.this()
        lock = database.lock(holder)
        session = cls(database, database.writing_engine(create=create), lock=lock, clock=clock, on_wait=on_wait)
        try:
            session._repeat(partial(session._make_or_upgrade, create=create))
            session._repeat(partial(session._take_lease, holder))
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

    def read(self, query: Callable[[Connection], T]) -> T:
        """The result of a query on one consistent view; a row that cannot be decoded is damage.

        While a driver's server is away, it is waited for, and the query begins again.
        """

        def attempt() -> T:
            with self.engine.connect() as connection:
                try:
                    return query(connection)
                except (ValueError, TypeError, KeyError, SpaceError) as error:
                    raise StoreError(
                        f"{self.name}: holds a row that no run writes ({error}); restore a copy, or start a new run",
                        code="store.damaged",
                    ) from error

        return self._repeat(attempt)

    def write(self, change: Callable[[Connection], T]) -> T:
        """The result of a change, one transaction under the lease.

        While the server is away, it is waited for; then the change begins again, unless it was committed.
        """
        if self._lease is None:
            raise StoreError(
                f"{self.name}: was opened for reading; open it as the run's driver to write", code="store.read-only"
            )
        number: int | None = None
        result: list[T] = []

        def attempt() -> T:
            nonlocal number
            if result and number is not None:  # the connection was lost during the commit
                with self.engine.connect() as connection:
                    if self._database.is_committed(connection, number):
                        return result[0]
            result.clear()
            with self._writer.begin() as connection:
                number = self._check_lease(connection)
                result.append(change(connection))
            return result[0]

        return self._repeat(attempt)

    def _repeat(self, attempt: Callable[[], T]) -> T:
        """The result of an attempt, repeated while the server is away; afterwards, nothing is waited for again."""

        def translated() -> T:
            with self._translated():
                return attempt()

        try:
            result = self._patience.repeat(translated, self._reason_to_wait)
        except (StoreAwayError, KeyboardInterrupt):
            # What remains to be done, such as recording the end, must not wait, too.
            self._patience = Patience(self.name, 0.0)
            raise
        self._was_reached = True
        return result

    def _reason_to_wait(self, error: Exception) -> str:
        if not isinstance(error.__cause__, DBAPIError):
            return ""
        return self._database.reason_to_wait(error.__cause__, was_reached=self._was_reached)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns the database's errors into those of this run."""
        if self._closed:
            raise StoreError(f"{self.name}: was closed; open it again", code="store.closed")
        try:
            yield
        except DBAPIError as error:
            raise self._database.error_of(error) from error

    def _check_lease(self, connection: Connection) -> int | None:
        """The number of the transaction, see `Database.transaction_number`; `RunHeldError` without the lease."""
        # In the writing transaction itself (FOR UPDATE where the database has it), so that no takeover comes between.
        lease_row = connection.execute(self._lease_query).one_or_none()
        if lease_row is None or lease_row.number != self._lease:
            holder_text = "another driver" if lease_row is None else str(Holder(lease_row.pid, lease_row.host))
            raise RunHeldError(
                f"{self.name}: the run was taken over by {holder_text}, so this driver writes no more (what it committed is "
                "kept); let the other one finish, or stop it and resume the run",
                code="run.taken-over",
            )
        return getattr(lease_row, "transaction", None)

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
