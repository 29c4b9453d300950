"""The database that a run's rows are in: an SQLite file or a PostgreSQL schema."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import ColumnElement, Connection, Engine
from sqlalchemy.exc import DBAPIError

from nas.engine.store.lease import Holder
from nas.errors import StoreAwayError, StoreError

WRITES = "nas_writes"
"""Execution option of connections whose transactions write."""


class Lock(Protocol):
    """A driver's lock on its run."""

    def release(self) -> None:
        """Frees it; idempotent."""


class Database(Protocol):
    """The database of a run's tables, which may be one schema of many; the defaults are those of a file of its own."""

    @property
    def name(self) -> str:
        """Its name in errors, without a password."""

    @property
    def schema(self) -> str | None:
        """The schema that the tables are in; None where the database is the run's own."""
        return None

    @property
    def server(self) -> str | None:
        """The URL of its server, with the user; None for a file."""
        return None

    def check(self, *, create: bool) -> None:
        """Raises `StoreError` if it cannot be opened at all, before anything is changed."""
        return

    def lock(self, holder: Holder) -> Lock | None:
        """A lock that excludes other drivers, or `RunHeldError`; None where the driver's own connections hold one."""
        return None

    def reading_engine(self) -> Engine: ...

    def writing_engine(self, *, create: bool) -> Engine:
        """An engine for the driver; its transactions that write begin by `WRITES`."""

    def prepare(self, connection: Connection) -> None:
        """Creates what the tables need."""
        return

    def enter(self, connection: Connection) -> None:
        """Lets plain statements of this transaction find the tables by their names alone."""
        return

    def damage(self, engine: Engine) -> str:
        """The first damage found; "" for none, or where the server checks its own files."""
        return ""

    def explain(self, error: DBAPIError) -> str:
        """The cause of an error and a remedy, for the user."""

    def is_away(self, error: DBAPIError) -> bool:
        """True if the error means that the server cannot be reached."""
        return False

    def error_of(self, error: DBAPIError) -> StoreError:
        """An error as the user sees it."""
        kind = StoreAwayError if self.is_away(error) else StoreError
        return kind(f"{self.name}: {self.explain(error)}")

    def remove(self) -> None:
        """Removes the run's rows where they are not in its folder; idempotent.

        Raises:
            RunHeldError: a live driver has the run.
            StoreAwayError: the server does not answer now.
        """
        return

    @property
    def wait_minutes(self) -> float:
        """Minutes that a driver waits for its server while that is away; 0 for a file."""
        return 0.0

    def reason_to_wait(self, error: DBAPIError, *, was_reached: bool) -> str:
        """The error of a server that is likely to return, in a few words; "" for any other.

        Args:
            was_reached: True if the server has answered before.
        """
        return ""

    @property
    def transaction_number(self) -> ColumnElement[int] | None:
        """The number of a transaction that writes, for `is_committed`; None where a commit has always one known outcome."""
        return None

    def is_committed(self, connection: Connection, number: int) -> bool:
        """True if the transaction with this number was committed, as a commit may be whose answer was lost."""
        return False

    def is_held(self) -> bool:
        """True if a live driver has the run; False if that cannot be determined."""
