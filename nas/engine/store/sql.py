"""A run's store in an SQL database: an SQLite file or a PostgreSQL schema."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection, Table, bindparam, case, delete, exists, func, insert, select

from nas.engine.store import tables
from nas.engine.store.base import Event, Fit, MeasuringSession, Outcome, RunStatus, RunStore
from nas.engine.store.database import Database
from nas.engine.store.json_values import plain
from nas.engine.store.measurement_rows import (
    MEASUREMENT_COLUMNS,
    OUTCOME_COLUMNS,
    REQUEST_COLUMNS,
    check_step,
    latest,
    measurement_columns,
    measurement_of,
    outcome_of,
    request_columns,
    storable,
)
from nas.engine.store.sql_session import SqlSession
from nas.engine.store.sqlite import SqliteDatabase
from nas.search.problem.evaluation_counts import EvaluationCounts, Result, worst
from nas.search.problem.objectives import Fidelity, Measurement, Request, Status, Variant
from supernets.space import Architecture

_P = ParamSpec("_P")
_T = TypeVar("_T")

_KEYS_A_QUERY = 500
"""Well below the number of parameters that any database takes in one statement."""

# What runs with every measurement or ask is made once: to make a statement takes SQLAlchemy longer than SQLite to run it.
_ATOM = (*REQUEST_COLUMNS, "attempt")
_EXISTING = select(*(tables.measurements.c[name] for name in _ATOM)).where(
    tables.measurements.c.architecture.in_(bindparam("keys", expanding=True))
)
_MEASUREMENTS = select(*(tables.measurements.c[name] for name in MEASUREMENT_COLUMNS))
_OUTCOMES = select(*(tables.measurements.c[name] for name in OUTCOME_COLUMNS)).order_by(tables.measurements.c.id)
_LAST_STATUS = select(tables.status).order_by(tables.status.c.id.desc()).limit(1)
_ADD = insert(tables.measurements).returning(tables.measurements.c.id, sort_by_parameter_order=True)
_ADD_SAMPLES = insert(tables.samples)
_LAST_STEP = select(func.max(tables.asks.c.step))
_ADD_ASK = insert(tables.asks)

# Answered by the index of the unique constraint alone. Several attempts at a metric count once.
_METRICS_TAKEN = (
    select(*(tables.measurements.c[name] for name in ("architecture", "precision", "metric", "profile")))
    .where(tables.measurements.c.fidelity == str(Fidelity.SEARCH))
    .distinct()
    .subquery()
)
_CANDIDATES = select(_METRICS_TAKEN.c.architecture, _METRICS_TAKEN.c.precision).group_by(
    _METRICS_TAKEN.c.architecture, _METRICS_TAKEN.c.precision
)
_N_WHOLE = select(func.count()).select_from(_CANDIDATES.having(func.count() >= bindparam("n_figures")).subquery())
_UNFINISHED = _CANDIDATES.having(func.count() < bindparam("n_figures"))
_FAILED = tables.measurements.c.status == str(Status.FAILED)
_FLAWS = (
    select(  # with later attempts, which may have succeeded; the detail of failures alone: reading it takes longest
        *(tables.measurements.c[name] for name in _ATOM),
        tables.measurements.c.status,
        case((_FAILED, tables.measurements.c.detail)).label("detail"),
    ).where(
        tables.measurements.c.fidelity == str(Fidelity.SEARCH),
        (tables.measurements.c.status != str(Status.OK)) | (tables.measurements.c.attempt > 0),
    )
)
_LATER = tables.measurements.alias()
_IS_LATEST = ~exists().where(
    *(_LATER.c[name] == tables.measurements.c[name] for name in REQUEST_COLUMNS),
    _LATER.c.attempt > tables.measurements.c.attempt,
)
_LEVEL, _NOISE = (tables.measurements.c.environment[name].as_float() for name in ("level_ms", "noise"))
_BEGUN = func.min(tables.measurements.c.time)
_SESSIONS = (
    select(tables.measurements.c.profile, _LEVEL, _NOISE, _BEGUN, func.min(tables.measurements.c.precision))
    .where(tables.measurements.c.profile != "", _LEVEL.is_not(None))
    .group_by(tables.measurements.c.profile, _LEVEL, _NOISE)
    .order_by(tables.measurements.c.profile, _BEGUN)
)
_FAILURES = _MEASUREMENTS.where(_FAILED, _IS_LATEST).order_by(tables.measurements.c.id)


def _reads(
    method: Callable[Concatenate[SqlStore, Connection, _P], _T],
) -> Callable[Concatenate[SqlStore, _P], _T]:
    """A method of a store that reads one consistent view, by a connection that it gets."""

    @wraps(method)
    def call(store: SqlStore, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return store.session.read(lambda connection: method(store, connection, *args, **kwargs))

    return call


def _writes(
    method: Callable[Concatenate[SqlStore, Connection, _P], _T],
) -> Callable[Concatenate[SqlStore, _P], _T]:
    """A method of a store that is one transaction, by a connection that it gets; it is called again until one is committed."""

    @wraps(method)
    def call(store: SqlStore, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return store.session.write(lambda connection: method(store, connection, *args, **kwargs))

    return call


class SqlStore(RunStore):
    """All rows of one run in a database; made by `open`. Safe to use from several threads of one process."""

    def __init__(self, session: SqlSession, clock: Callable[[], float]) -> None:
        self.session, self._clock, self._name = session, clock, session.name

    @classmethod
    def open(
        cls,
        place: Path | str | Database,
        *,
        create: bool,
        driver: bool,
        on_wait: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """The store of a run.

        Args:
            place: its database, or the path of an SQLite file.
            create: make the database if there is none (or if its making was interrupted); needs `driver`.
            driver: take the run's lease, to write; without it the store only reads, also beside a live driver.
            on_wait: Receives what a driver waits for while the database's server is away, and "" at the end of the wait; None
                waits for no server.
            clock: seconds since the epoch.

        Raises:
            RunHeldError: another live driver has the lease.
            OutdatedStoreError: its tables are of an earlier version; a driver migrates them.
            StoreError: no such database, damaged, of another version, or it cannot be written.
        """
        if create and not driver:
            raise ValueError("a database is made by a driver; open with driver=True, or with create=False")
        database = SqliteDatabase(Path(place)) if isinstance(place, str | Path) else place
        database.check(create=create)
        if driver:
            return cls(SqlSession.open_driving(database, create=create, clock=clock, on_wait=on_wait), clock)
        return cls(SqlSession.open_reading(database, clock=clock), clock)

    @_reads
    def status(self, connection: Connection) -> RunStatus:
        row = connection.execute(_LAST_STATUS).one_or_none()
        return RunStatus.QUEUED if row is None else RunStatus(row.status)

    def set_status(self, status: RunStatus, *, reason: str = "") -> None:
        self._insert(tables.status, status=str(status), reason=reason, time=self._clock())

    @_reads
    def statuses(self, connection: Connection) -> list[tuple[RunStatus, float]]:
        rows = connection.execute(select(tables.status.c.status, tables.status.c.time).order_by(tables.status.c.id))
        return [(RunStatus(row.status), row.time) for row in rows]

    @_reads
    def reason(self, connection: Connection) -> str:
        row = connection.execute(_LAST_STATUS).one_or_none()
        return "" if row is None else str(row.reason)

    @_reads
    def _values(
        self, connection: Connection, *, only: Sequence[str] = (), without: Sequence[str] = ()
    ) -> dict[str, Any]:
        query = select(tables.info.c.name, tables.info.c.value)
        query = query.where(tables.info.c.name.in_(only)) if only else query.where(tables.info.c.name.not_in(without))
        return {row.name: row.value for row in connection.execute(query)}

    @_writes
    def _set_values(self, connection: Connection, values: Mapping[str, Any]) -> None:
        if not values:
            return
        connection.execute(delete(tables.info).where(tables.info.c.name.in_(list(values))))
        connection.execute(insert(tables.info), [{"name": name, "value": values[name]} for name in values])

    @_writes
    def record_ask(
        self,
        connection: Connection,
        step: int,
        architectures: Sequence[Architecture],
        told: Sequence[Architecture] | None = None,
    ) -> None:
        asked = [architecture.key for architecture in architectures]
        keys = asked if told is None else {"asked": asked, "told": [architecture.key for architecture in told]}
        last: int | None = connection.execute(_LAST_STEP).scalar_one()
        check_step(step, 0 if last is None else last + 1)
        connection.execute(_ADD_ASK, {"step": step, "architectures": keys, "time": self._clock()})

    @_reads
    def asks(self, connection: Connection) -> list[list[Architecture]]:
        return [_parsed(keys["asked"] if isinstance(keys, dict) else keys) for keys in _asked(connection)]

    @_reads
    def told(self, connection: Connection) -> list[list[Architecture] | None]:
        return [_parsed(keys["told"]) if isinstance(keys, dict) else None for keys in _asked(connection)]

    @_writes
    def add(self, connection: Connection, *measurements: Measurement) -> None:
        keys = list({measurement.request.architecture.key for measurement in measurements})
        existing = {tuple(row) for row in connection.execute(_EXISTING, {"keys": keys})}
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        samples: list[bytes | None] = []
        for stored in map(storable, measurements):
            row = {**measurement_columns(stored), "time": self._clock()}
            if (atom := tuple(row[name] for name in _ATOM)) not in existing and atom not in rows:
                rows[atom] = row
                samples.append(stored.samples)
        if not rows:
            return
        ids = connection.execute(_ADD, list(rows.values())).scalars()
        pairs = zip(ids, samples, strict=True)
        if with_samples := [{"measurement": i, "samples": raw} for i, raw in pairs if raw is not None]:
            connection.execute(_ADD_SAMPLES, with_samples)

    @_reads
    def attempts(self, connection: Connection, requests: Sequence[Request]) -> dict[Request, list[Measurement]]:
        wanted = set(requests)
        keys = list(dict.fromkeys(request.architecture.key for request in requests))
        measurements: list[Measurement] = []
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = tables.measurements.c.architecture.in_(keys[start : start + _KEYS_A_QUERY])
            measurements += [measurement_of(row) for row in connection.execute(_MEASUREMENTS.where(some))]
        attempts_by_request: dict[Request, list[Measurement]] = {}
        for measurement in sorted(measurements, key=attrgetter("attempt")):
            if measurement.request in wanted:
                attempts_by_request.setdefault(measurement.request, []).append(measurement)
        return attempts_by_request

    @_reads
    def measurements(self, connection: Connection, fidelity: Fidelity | None = None) -> list[Measurement]:
        query = _MEASUREMENTS.order_by(tables.measurements.c.id)
        if fidelity is not None:
            query = query.where(tables.measurements.c.fidelity == str(fidelity))
        # All at once: to ask for one row after another takes longer than to read it.
        return latest([measurement_of(row) for row in connection.execute(query).all()], attrgetter("request"))

    @_reads
    def outcomes(self, connection: Connection) -> list[Outcome]:
        return latest([outcome_of(row) for row in connection.execute(_OUTCOMES).all()], itemgetter(slice(5)))

    @_reads
    def sessions(self, connection: Connection) -> list[MeasuringSession]:
        rows = connection.execute(_SESSIONS)
        return [
            MeasuringSession(profile, level, noise, time, Variant.parse(variant).runtime)
            for profile, level, noise, time, variant in rows
        ]

    @_reads
    def n_measurements(self, connection: Connection) -> int:
        return int(connection.execute(select(func.count()).select_from(tables.measurements)).scalar_one())

    @_reads
    def counts(self, connection: Connection, n_metrics: int) -> EvaluationCounts:
        metrics = {"n_figures": n_metrics}
        n_whole = int(connection.execute(_N_WHOLE, metrics).scalar_one())
        latest_of: dict[tuple[str, ...], tuple[int, Result]] = {}
        for *request, attempt, status, detail in connection.execute(_FLAWS).all():
            attempt_result = (attempt, Result.of(Status(status), detail))
            latest_of[tuple(request)] = max(attempt_result, latest_of.get(tuple(request), attempt_result))
        unfinished = {(key, precision) for key, precision in connection.execute(_UNFINISHED, metrics)}
        flawed: dict[tuple[str, str], list[Result]] = {}
        for (architecture, _, _, _, precision), (_, result) in latest_of.items():
            if (architecture, precision) not in unfinished:
                flawed.setdefault((architecture, precision), []).append(result)
        measured = [Result.MEASURED] * (n_whole - len(flawed))
        return EvaluationCounts.of([*measured, *map(worst, flawed.values())])

    @_reads
    def failures(self, connection: Connection) -> list[Measurement]:
        return [measurement_of(row) for row in connection.execute(_FAILURES).all()]

    @_reads
    def samples(self, connection: Connection, request: Request) -> bytes | None:
        query = (
            select(tables.samples.c.samples)
            .select_from(tables.measurements.join(tables.samples))
            .where(*(tables.measurements.c[name] == value for name, value in request_columns(request).items()))
            .order_by(tables.measurements.c.attempt.desc())
            .limit(1)
        )
        samples: bytes | None = connection.execute(query).scalar_one_or_none()
        return samples

    @_writes
    def record_fit(self, connection: Connection, fit: Fit) -> None:
        quality = plain(fit.quality, where="quality")
        # a search killed between fit and ask fits the same step again
        same = [tables.fits.c.step == fit.step, tables.fits.c.objective == fit.objective]
        connection.execute(delete(tables.fits).where(*same))
        connection.execute(insert(tables.fits).values(step=fit.step, objective=fit.objective, quality=quality))

    @_reads
    def fits(self, connection: Connection) -> list[Fit]:
        rows = connection.execute(select(tables.fits).order_by(tables.fits.c.id))
        return [Fit(row.step, row.objective, row.quality) for row in rows]

    def record_event(self, kind: str, detail: Mapping[str, Any]) -> None:
        self._insert(tables.events, kind=kind, detail=plain(detail, where="detail"), time=self._clock())

    @_reads
    def events(self, connection: Connection) -> list[Event]:
        rows = connection.execute(select(tables.events).order_by(tables.events.c.id))
        return [Event(row.kind, row.detail, row.time) for row in rows]

    def close(self) -> None:
        """Closes the database, then frees the lease; idempotent."""
        self.session.close()

    @_writes
    def _insert(self, connection: Connection, /, table: Table, **values: Any) -> None:
        connection.execute(insert(table).values(**values))


def _asked(connection: Connection) -> list[Any]:
    """The stored keys of each ask, by step."""
    return list(connection.execute(select(tables.asks.c.architectures).order_by(tables.asks.c.step)).scalars())


def _parsed(keys: Sequence[str]) -> list[Architecture]:
    return [Architecture.parse(key) for key in keys]
