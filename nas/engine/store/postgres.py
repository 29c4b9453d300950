"""A run's store in a PostgreSQL schema: URLs, connections, the driver's lock, and the errors of the server."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Engine, NullPool, QueuePool, create_engine, event, func, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.schema import CreateSchema, DropSchema

from hardware_profiles.waiting import MAX_WAIT_MINUTES, WAIT_MINUTES
from nas.engine.store.database import Database
from nas.engine.store.json_values import decoded
from nas.engine.store.lease import Holder
from nas.errors import RunHeldError, StoreError

EXAMPLE = "postgresql+psycopg://user@host/database"
_SECRETS = ("password", "sslpassword")
"""Passwords that the query of a URL may hold."""
_SCHEMA = "nas_"
"""The schemas of runs begin with it; no other is ever removed."""
_DRIVERS = ("postgresql+psycopg", "postgresql", "postgres")
_CONNECT_S, _LOCK_S = 10, 15
_KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""The server ends the session of a driver whose machine is lost after 25 s; then another driver can take the run."""
_LOCK_ROW = (
    "FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND database = "
    "(SELECT oid FROM pg_database WHERE datname = current_database()) AND classid::bigint = %s AND objid::bigint = %s"
)
"""The session that holds a run's advisory lock, whose number has two halves."""
_PATIENCE_S, _BETWEEN_TRIES_S = 2.0, 0.05
"""A server may take a moment to notice that a killed driver is gone."""

_WAIT = "wait_minutes"
"""Key of a URL's query; all others are libpq's."""

# By words of the server's or the client library's message, in lower case, or by SQLSTATE.
_REASONS: Mapping[str, str] = {
    "password authentication failed": "refuses this user's password; set PGPASSWORD, or write it into ~/.pgpass",
    "no password supplied": "asks for a password; set PGPASSWORD, or write it into ~/.pgpass",
    "no pg_hba.conf entry": "lets nobody in from here; see the server's pg_hba.conf",
    "connection refused": "does not answer; look at host and port, and whether the server runs",
    "no such file or directory": "does not answer; look at host and port, and whether the server runs",
    "timeout expired": "does not answer; look at host and port, and whether the server runs",
    "no route to host": "does not answer; look at host and port, and at the network",
    "resolve": "names no known host; look at its spelling",
    "name or service not known": "names no known host; look at its spelling",
    "42501": "does not let this user do that; grant it CREATE on the database",
    "53100": "cannot be written; check the free space of the server's disk",
    "55P03": f"is locked by another session for more than {_LOCK_S} s; end that session",
    "25006": "cannot be written: the server is a standby, or read only; name the primary",
    "42P01": "does not hold this run's tables; they were removed, or this is another database than the run's",
}
_SERVER = re.compile(r'connection to server (?:at|on socket) "[^"]*"(?: \([^)]*\))?(?:, port \d+)?')
"""The place of the server in its library's messages, which the URL states already."""
_NOT_NOW = ("in recovery mode", "starting up", "shutting down", "not yet accepting connections", "too many clients")
_LOST = (
    "terminating connection",
    "server closed",
    "closed unexpectedly",
    "connection is lost",
    "connection is closed",
    "connection reset",
    "broken pipe",
    "could not receive",
)
_NO_ANSWER = (
    "connection refused",
    "no such file or directory",
    "timeout expired",
    "no route to host",
    "is unreachable",
)
_NO_NAME = ("resolve", "name or service not known", "name resolution")


@dataclass(frozen=True)
class PostgresDatabase(Database):
    """A run's own schema in a PostgreSQL database.

    A driver's one connection has an advisory lock, which the server frees however the driver ends. A driver that loses
    its connection takes the lock again with the next one, unless another driver has it; what it may write, the lease's
    number in the database decides.

    Attributes:
        url: without a password, which libpq takes from PGPASSWORD or ~/.pgpass; its query may have ``wait_minutes``.
    """

    url: URL
    schema: str | None = None

    @property
    def name(self) -> str:
        return self.server + (f" (schema {self.schema})" if self.schema else "")

    @property
    def server(self) -> str:
        return self._libpq_url.render_as_string()

    @property
    def wait_minutes(self) -> float:
        return float(str(self.url.query.get(_WAIT, WAIT_MINUTES)))

    @property
    def _libpq_url(self) -> URL:
        return self.url.difference_update_query([_WAIT])

    def reading_engine(self) -> Engine:
        settings = {"default_transaction_read_only": "on", "default_transaction_isolation": "repeatable\\ read"}
        engine = create_engine(
            self._libpq_url, poolclass=NullPool, connect_args=_arguments(settings), json_deserializer=decoded
        )
        return self._in_schema(engine)

    def writing_engine(self, *, create: bool) -> Engine:
        engine = create_engine(
            self._libpq_url,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args=_arguments({"lock_timeout": f"{_LOCK_S}s", **_KEEPALIVE}),
            json_serializer=partial(json.dumps, allow_nan=False),
        )
        event.listen(engine, "connect", partial(self._take, []))
        return self._in_schema(engine)

    def prepare(self, connection: Connection) -> None:
        connection.execute(CreateSchema(str(self.schema), if_not_exists=True))

    def enter(self, connection: Connection) -> None:
        connection.exec_driver_sql(f'SET LOCAL search_path TO "{self.schema}"')

    def explain(self, error: DBAPIError) -> str:
        error_text = _shown(error)
        state, lower = getattr(error.orig, "sqlstate", None), error_text.lower()
        if match := re.search(r'database "([^"]*)" does not exist', error_text):
            return f"has no database {match[1]} ({error_text}); make it there with: createdb {match[1]}"
        if any(words in lower for words in _NOT_NOW):
            return f"accepts no connection now ({error_text}); wait until it runs, then resume the run"
        if error.connection_invalidated or any(words in lower for words in _LOST):
            return (
                f"the connection was lost ({error_text}); what was committed is kept: when it is back, resume the run"
            )
        for reason, text in _REASONS.items():
            if reason == state or reason in lower:
                return f"{text} ({error_text})"
        if state is None:  # no server has answered
            return f"cannot be reached at this URL ({error_text}); check its spelling"
        return f"refused a statement ({error_text}); look at the server's log"

    def is_away(self, error: DBAPIError) -> bool:
        error_text = str(error.orig).lower()
        unanswered = getattr(error.orig, "sqlstate", None) is None
        return unanswered or error.connection_invalidated or any(words in error_text for words in (*_NOT_NOW, *_LOST))

    def remove(self) -> None:
        """Drops the run's schema under its lock, or does nothing where it is gone."""
        if self.schema is None or not self.schema.startswith(_SCHEMA):
            raise StoreError(f"{self.name}: is no schema of a run; expected a name that begins with {_SCHEMA}")
        engine = self.writing_engine(create=False)
        try:
            with engine.begin() as connection:
                connection.execute(DropSchema(self.schema, cascade=True, if_exists=True))
        except DBAPIError as error:
            raise self.error_of(error) from error
        finally:
            engine.dispose()

    def reason_to_wait(self, error: DBAPIError, *, was_reached: bool) -> str:
        error_text = _shown(error)
        passing = (*_NOT_NOW, *_LOST, *_NO_ANSWER, *(_NO_NAME if was_reached else ()))
        may_pass = error.connection_invalidated or any(words in error_text.lower() for words in passing)
        return error_text if may_pass else ""

    @property
    def transaction_number(self) -> ColumnElement[int]:
        return func.txid_current()

    def is_committed(self, connection: Connection, number: int) -> bool:
        query, until = "SELECT txid_status(%s)", time.monotonic() + _LOCK_S
        while (outcome := connection.exec_driver_sql(query, (number,)).scalar_one()) == "in progress":
            if time.monotonic() > until:
                break
            time.sleep(_BETWEEN_TRIES_S)
        return bool(outcome == "committed")

    def is_held(self) -> bool:
        """True if a live driver has the run; False if the server does not answer."""
        engine = self.reading_engine()
        try:
            with engine.connect() as connection:
                return bool(connection.exec_driver_sql(f"SELECT count(*) {_LOCK_ROW}", self._halves).scalar_one())
        except DBAPIError:
            return False
        finally:
            engine.dispose()

    @property
    def _key(self) -> int:
        """The number of the run's advisory lock."""
        return int.from_bytes(sha256(str(self.schema).encode()).digest()[:7], "big")

    @property
    def _halves(self) -> tuple[int, int]:
        """The number as `_LOCK_ROW` has it."""
        return divmod(self._key, 2**32)

    def _in_schema(self, engine: Engine) -> Engine:
        return engine.execution_options(schema_translate_map={None: self.schema})

    def _take(self, sessions: list[int], connection: Any, record: object) -> None:
        """Takes the run's lock for a new connection; `RunHeldError` if another driver has it.

        Args:
            sessions: The server's process of this driver's last connection, if it had one: where the network was lost, the
                server has not noticed yet, and its session still has the lock.
        """
        _OPEN.add(connection)
        until = time.monotonic() + _PATIENCE_S
        while not _answer(connection, "SELECT pg_try_advisory_lock(%s)", self._key):
            for session in sessions:
                _answer(
                    connection, f"SELECT pg_terminate_backend(pid) {_LOCK_ROW} AND pid = %s", *self._halves, session
                )
            if time.monotonic() > until:
                holder_text = "one that is making it"
                if _answer(connection, "SELECT to_regclass(%s)", f"{self.schema}.lease"):
                    row = _answer(connection, f"SELECT pid || ' ' || host FROM {self.schema}.lease")
                    pid, _, host = str(row).partition(" ")
                    holder_text = str(Holder(int(pid), host)) if pid.isdigit() else holder_text
                raise RunHeldError(
                    f"{self.name}: the run is held by another live driver ({holder_text}); wait until it ends, or stop it first"
                )
            time.sleep(_BETWEEN_TRIES_S)
        sessions[:] = [connection.info.backend_pid]


def parse_url(text: str, *, where: str = "store") -> URL:
    """The address of a PostgreSQL database.

    Args:
        where: the field or the file that it is from, for errors.

    Raises:
        StoreError: it is none, has a password in it, names no database, or the client library is not installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        without = re.sub(r"(?<=:)[^:/@]*(?=@)", "***", text)
        raise StoreError(
            f"{where}: {without!r} is no URL of a database; expected {EXAMPLE}",
            code="store.invalid-url",
            parameter=where,
        ) from None
    shown = url.difference_update_query(_SECRETS).render_as_string()
    if url.drivername not in _DRIVERS:
        raise StoreError(
            f"{where} {shown}: runs are kept in PostgreSQL or, without a store, in a file of their own; expected {EXAMPLE}",
            code="store.invalid-url",
            parameter=where,
        )
    if url.password is not None or not url.query.keys().isdisjoint(_SECRETS):
        raise StoreError(
            f"{where} {shown}: leave the password out, which would be kept with the run; set PGPASSWORD, or write it into "
            "~/.pgpass",
            code="store.password-in-url",
            parameter=where,
        )
    if not url.database:
        message = f"{where} {shown}: names no database; expected {EXAMPLE}"
        raise StoreError(message, code="store.invalid-url", parameter=where)
    if not _is_minutes(url.query.get(_WAIT, "0")):
        message = f"{where} {shown}: {_WAIT}: expected minutes from 0 to {MAX_WAIT_MINUTES}, got {url.query[_WAIT]!r}"
        raise StoreError(message, code="store.invalid-url", parameter=where)
    try:
        import psycopg  # noqa: F401  the driver may be missing, or the C library below it
    except ImportError as error:
        raise StoreError(
            f"{where} {shown}: {str(error).splitlines()[0]}; install the client with: pip install 'subnet-nas[postgres]'",
            code="store.no-client",
        ) from None
    return url.set(drivername=_DRIVERS[0])


def new_schema(url: str, name: str) -> PostgresDatabase:
    """A place for a new run in a database: a schema that is not there yet; raises as `check_server`."""
    readable = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40]
    return PostgresDatabase(check_server(url), f"{_SCHEMA}{readable}_{uuid.uuid4().hex[:8]}")


def check_server(url: str) -> URL:
    """The address of a database that answers, and in which runs can be made.

    Raises:
        StoreError: the URL is invalid, its server does not answer, or its user may make no schemas.
    """
    database = PostgresDatabase(parse_url(url))
    engine = database.reading_engine()
    try:
        with engine.connect() as connection:
            query = "SELECT has_database_privilege(current_database(), 'CREATE')"
            allowed = connection.exec_driver_sql(query).scalar_one()
    except DBAPIError as error:
        raise StoreError(f"{database.name}: {database.explain(error)}") from error
    finally:
        engine.dispose()
    if not allowed:
        raise StoreError(f"{database.name}: {_REASONS['42501']}")
    return database.url


def _shown(error: DBAPIError) -> str:
    """The message of an error in one line, without the place of the server."""
    return _SERVER.sub("connection to server", " ".join(str(error.orig).split()))


def _is_minutes(text: object) -> bool:
    try:
        return 0 <= float(str(text)) <= MAX_WAIT_MINUTES
    except ValueError:
        return False


def _arguments(settings: Mapping[str, str]) -> dict[str, Any]:
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return {"connect_timeout": _CONNECT_S, "application_name": "nas", "options": options}


def _answer(connection: Any, query: str, *values: object) -> Any:
    """The one value that a query gives; None for no row. Ends its transaction."""
    cursor = connection.execute(query, values)
    row = cursor.fetchone()
    connection.commit()
    return None if row is None else row[0]


_OPEN: weakref.WeakSet[Any] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child shares the parent's connection: it would keep the lock after the parent's death, or end the session."""
    for connection in list(_OPEN):
        if not connection.closed:
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nowhere, connection.fileno(), inheritable=False)
            os.close(nowhere)


os.register_at_fork(after_in_child=_forget_in_child)
