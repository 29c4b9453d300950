"""A run's store in an SQL database, an SQLite file or a schema, written by the one driver that holds its lease."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Engine, Table, bindparam, delete, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from nas.errors import RunHeldError, StoreAwayError, StoreError
from nas.problem.objectives import Fidelity, Measurement, Request
from nas.store import tables
from nas.store.base import Event, Fit, Outcome, RunStatus
from nas.store.checks import check_step
from nas.store.database import WRITES, Database, Lock
from nas.store.description import DescribedRun
from nas.store.json_values import plain
from nas.store.lease import Holder
from nas.store.measurement_rows import (
    MEASUREMENT_COLUMNS,
    OUTCOME_COLUMNS,
    latest,
    measurement_columns,
    measurement_of,
    outcome_of,
    request_columns,
    storable,
)
from nas.store.sqlite import SqliteDatabase
from supernets.errors import SpaceError
from supernets.space import Architecture

_KEYS_A_QUERY = 500
"""Well below the number of parameters that any database takes in one statement."""

# What runs with every measurement is made once: to make a statement takes SQLAlchemy longer than SQLite to run it.
_LEASE = select(tables.lease).with_for_update()
_ATOM = (*tables.REQUEST_COLUMNS, "attempt")
_KNOWN = select(tables.measurements.c.id).where(*(tables.measurements.c[name] == bindparam(name) for name in _ATOM))
_MEASUREMENTS = select(*(tables.measurements.c[name] for name in MEASUREMENT_COLUMNS))
_OUTCOMES = select(*(tables.measurements.c[name] for name in OUTCOME_COLUMNS)).order_by(tables.measurements.c.id)
_ADD = insert(tables.measurements).returning(tables.measurements.c.id)
_ADD_SAMPLES = insert(tables.samples)

# Answered by the index of the unique constraint alone. Several attempts at a figure are one figure.
_FIGURES = (
    select(*(tables.measurements.c[name] for name in ("architecture", "precision", "metric", "profile")))
    .where(tables.measurements.c.fidelity == str(Fidelity.SEARCH))
    .distinct()
    .subquery()
)
_WHOLE = (
    select(_FIGURES.c.architecture)
    .group_by(_FIGURES.c.architecture, _FIGURES.c.precision)
    .having(func.count() >= bindparam("n_figures"))
    .subquery()
)
_N_WHOLE = select(func.count()).select_from(_WHOLE)


class SqlStore(DescribedRun):
    """All rows of one run in a database; made by `open`. Safe to use from several threads of one process.

    Args:
        lock: the run's lock, released by `close`; None where the engine needs none.
    """

    def __init__(self, database: Database, engine: Engine, *, lock: Lock | None, clock: Callable[[], float]) -> None:
        self._database, self._engine = database, engine
        self._writer = engine.execution_options(**{WRITES: True})
        self._name, self._lock, self._clock = database.name, lock, clock
        self._lease: int | None = None  # the number that every write must find in the database; None: it only reads
        self._closed = False

    @classmethod
    def open(
        cls, place: Path | str | Database, *, create: bool, driver: bool, clock: Callable[[], float] = time.time
    ) -> Self:
        """The store of a run.

        Args:
            place: its database, or the path of an SQLite file.
            create: make the database if there is none (or if its making was interrupted); needs `driver`.
            driver: take the run's lease, to write; without it the store only reads, also beside a live driver.
            clock: seconds since the epoch.

        Raises:
            RunHeldError: another live driver has the lease.
            OutdatedStoreError: of an earlier version, which a driver brings up to this one.
            StoreError: no such database, damaged, of another version, or it cannot be written.
        """
        if create and not driver:
            raise ValueError("a database is made by a driver; open with driver=True, or with create=False")
        database = SqliteDatabase(Path(place)) if isinstance(place, str | Path) else place
        database.check(create=create)
        if not driver:
            store = cls(database, database.reading_engine(), lock=None, clock=clock)
            with store._translated():
                store._check_version()
            return store
        holder = Holder.this()
        lock = database.lock(holder)
        store = cls(database, database.writing_engine(create=create), lock=lock, clock=clock)
        try:
            with store._translated():
                store._make_or_upgrade(create=create)
                store._lease = store._take_lease(holder)
        except BaseException:
            store.close()
            raise
        return store

    def status(self) -> RunStatus:
        with self._reading() as connection:
            found = connection.execute(select(tables.status.c.status).order_by(tables.status.c.id.desc()).limit(1))
            return RunStatus(found.scalar_one_or_none() or RunStatus.QUEUED)

    def set_status(self, status: RunStatus, *, reason: str = "") -> None:
        self._insert(tables.status, status=str(status), reason=reason, time=self._clock())

    def statuses(self) -> list[tuple[RunStatus, float]]:
        with self._reading() as connection:
            rows = connection.execute(select(tables.status.c.status, tables.status.c.time).order_by(tables.status.c.id))
            return [(RunStatus(row.status), row.time) for row in rows]

    def reason(self) -> str:
        with self._reading() as connection:
            found = connection.execute(select(tables.status.c.reason).order_by(tables.status.c.id.desc()).limit(1))
            return found.scalar_one_or_none() or ""

    def _values(self, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> dict[str, Any]:
        query = select(tables.info.c.name, tables.info.c.value)
        query = query.where(tables.info.c.name.in_(only)) if only else query.where(tables.info.c.name.not_in(without))
        with self._reading() as connection:
            return {row.name: row.value for row in connection.execute(query)}

    def _set_values(self, values: Mapping[str, Any]) -> None:
        if not values:
            return
        with self._writing() as connection:
            connection.execute(delete(tables.info).where(tables.info.c.name.in_(list(values))))
            connection.execute(insert(tables.info), [{"name": name, "value": values[name]} for name in values])

    def record_ask(self, step: int, architectures: Sequence[Architecture]) -> None:
        keys = [architecture.key for architecture in architectures]
        with self._writing() as connection:
            last: int | None = connection.execute(select(func.max(tables.asks.c.step))).scalar_one()
            check_step(step, 0 if last is None else last + 1)
            connection.execute(insert(tables.asks).values(step=step, architectures=keys, time=self._clock()))

    def asks(self) -> list[list[Architecture]]:
        with self._reading() as connection:
            rows = connection.execute(select(tables.asks.c.architectures).order_by(tables.asks.c.step))
            return [[Architecture.parse(key) for key in keys] for (keys,) in rows]

    def add(self, measurement: Measurement) -> None:
        kept = storable(measurement)
        values = {**measurement_columns(kept), "time": self._clock()}
        with self._writing() as connection:
            if connection.execute(_KNOWN, {name: values[name] for name in _ATOM}).first() is not None:
                return
            made = connection.execute(_ADD, values).scalar_one()
            if kept.samples is not None:
                connection.execute(_ADD_SAMPLES, {"measurement": made, "samples": kept.samples})

    def find(self, requests: Sequence[Request]) -> dict[Request, Measurement]:
        wanted = set(requests)
        keys = list(dict.fromkeys(request.architecture.key for request in requests))
        found: list[Measurement] = []
        with self._reading() as connection:
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = tables.measurements.c.architecture.in_(keys[start : start + _KEYS_A_QUERY])
                found += [measurement_of(row) for row in connection.execute(_MEASUREMENTS.where(some))]
        return {m.request: m for m in latest(found, attrgetter("request")) if m.request in wanted}

    def measurements(self, fidelity: Fidelity | None = None) -> list[Measurement]:
        query = _MEASUREMENTS.order_by(tables.measurements.c.id)
        if fidelity is not None:
            query = query.where(tables.measurements.c.fidelity == str(fidelity))
        with self._reading() as connection:
            # All at once: to ask for one row after another takes longer than to read it.
            return latest([measurement_of(row) for row in connection.execute(query).all()], attrgetter("request"))

    def outcomes(self) -> list[Outcome]:
        with self._reading() as connection:
            return latest([outcome_of(row) for row in connection.execute(_OUTCOMES).all()], itemgetter(slice(5)))

    def n_measurements(self) -> int:
        with self._reading() as connection:
            return int(connection.execute(select(func.count()).select_from(tables.measurements)).scalar_one())

    def n_whole(self, n_figures: int) -> int:
        with self._reading() as connection:
            return int(connection.execute(_N_WHOLE, {"n_figures": n_figures}).scalar_one())

    def samples(self, request: Request) -> bytes | None:
        query = (
            select(tables.samples.c.samples)
            .select_from(tables.measurements.outerjoin(tables.samples))
            .where(*_same(request))
            .order_by(tables.measurements.c.attempt.desc())
            .limit(1)
        )
        with self._reading() as connection:
            found: bytes | None = connection.execute(query).scalar_one_or_none()
            return found

    def record_fit(self, fit: Fit) -> None:
        quality = plain(fit.quality, where="quality")
        with self._writing() as connection:  # a search killed between its fit and its ask fits the same step again
            same = [tables.fits.c.step == fit.step, tables.fits.c.objective == fit.objective]
            connection.execute(delete(tables.fits).where(*same))
            connection.execute(insert(tables.fits).values(step=fit.step, objective=fit.objective, quality=quality))

    def fits(self) -> list[Fit]:
        with self._reading() as connection:
            rows = connection.execute(select(tables.fits).order_by(tables.fits.c.id))
            return [Fit(row.step, row.objective, row.quality) for row in rows]

    def record_event(self, kind: str, detail: Mapping[str, Any]) -> None:
        self._insert(tables.events, kind=kind, detail=plain(detail, where="detail"), time=self._clock())

    def events(self) -> list[Event]:
        with self._reading() as connection:
            rows = connection.execute(select(tables.events).order_by(tables.events.c.id))
            return [Event(row.kind, row.detail, row.time) for row in rows]

    def close(self) -> None:
        """Closes the database, then frees the lease; idempotent."""
        self._closed = True
        self._engine.dispose()
        if self._lock is not None:
            self._lock.release()

    def _insert(self, table: Table, **values: Any) -> None:
        with self._writing() as connection:
            connection.execute(insert(table).values(**values))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One consistent view; a row that cannot be decoded is damage."""
        with self._translated(), self._engine.connect() as connection:
            try:
                yield connection
            except (ValueError, TypeError, KeyError, SpaceError) as error:
                raise StoreError(
                    f"{self._name}: holds a row that no run writes ({error}); restore a copy, or start a new run"
                ) from error

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction under the lease, committed at its end."""
        if self._lease is None:
            raise StoreError(f"{self._name}: was opened for reading; open it as the run's driver to write")
        with self._translated(), self._writer.begin() as connection:
            self._check_lease(connection)
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The database's errors as what went wrong with this run."""
        if self._closed:
            raise StoreError(f"{self._name}: was closed; open it again")
        try:
            yield
        except DBAPIError as error:
            kind = StoreAwayError if self._database.is_away(error) else StoreError
            raise kind(f"{self._name}: {self._database.explain(error)}") from error

    def _check_lease(self, connection: Connection) -> None:
        # In the writing transaction itself (FOR UPDATE where the database has it), so that no takeover comes between.
        held = connection.execute(_LEASE).one_or_none()
        if held is None or held.number != self._lease:
            other = "another driver" if held is None else str(Holder(held.pid, held.host))
            raise RunHeldError(
                f"{self._name}: the run was taken over by {other}, so this driver writes no more (what it committed is "
                "kept); let the other one finish, or stop it and resume the run"
            )

    def _take_lease(self, holder: Holder) -> int:
        with self._writer.begin() as connection:
            last: int | None = connection.execute(select(tables.lease.c.number).with_for_update()).scalar_one_or_none()
            number = (last or 0) + 1
            connection.execute(delete(tables.lease))
            row = {"id": 1, "number": number, "pid": holder.pid, "host": holder.host, "time": self._clock()}
            connection.execute(insert(tables.lease).values(**row))
        return number

    def _make_or_upgrade(self, *, create: bool) -> None:
        """Makes the tables of an empty database, or brings those of an earlier version up to this one, all or none."""
        if damage := self._database.damage(self._engine):
            raise StoreError(f"{self._name}: is damaged ({damage}); restore it from a copy, or start a new run")
        with self._writer.begin() as connection:
            if create:
                self._database.prepare(connection)
                if not inspect(connection).get_table_names(schema=self._database.schema):
                    tables.SCHEMA.make(connection)
            self._check_run(connection)
            self._database.enter(connection)
            tables.SCHEMA.upgrade(connection, name=self._name)

    def _check_version(self) -> None:
        with self._engine.connect() as connection:
            self._check_run(connection)
            tables.SCHEMA.check(connection, name=self._name)

    def _check_run(self, connection: Connection) -> None:
        if not inspect(connection).has_table(tables.version.name, schema=self._database.schema):
            raise StoreError(
                f"{self._name}: holds no run (its making was interrupted, or it is another program's database); "
                "start a new run"
            )


def _same(request: Request) -> list[ColumnElement[bool]]:
    """Conditions that a measurement's row is of this request."""
    return [tables.measurements.c[name] == value for name, value in request_columns(request).items()]
