"""What a store needs to know of the database that a run's rows are in, whichever it is."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from nas.store.lease import Holder

WRITES = "nas_writes"
"""Execution option of connections whose transactions write."""


class Lock(Protocol):
    """What a driver holds beside its engine while it drives."""

    def release(self) -> None:
        """Frees it; idempotent."""
        ...


class Database(Protocol):
    """Where a run's tables are, which may be one schema of many."""

    @property
    def name(self) -> str:
        """What it is called in errors; never with a password."""
        ...

    @property
    def schema(self) -> str | None:
        """The schema that the tables are in; None where the database is the run's own."""
        ...

    @property
    def server(self) -> str | None:
        """Which database server it is on, and as whom that is asked; None for a file."""
        ...

    def check(self, *, create: bool) -> None:
        """Raises `StoreError` where it cannot be opened at all, before anything is touched."""
        ...

    def lock(self, holder: Holder) -> Lock | None:
        """Keeps other drivers away; None where the driver's own connections do.

        Raises:
            RunHeldError: another live driver has it.
        """
        ...

    def reading_engine(self) -> Engine: ...

    def writing_engine(self, *, create: bool) -> Engine:
        """An engine for the driver; its transactions that write begin by `WRITES`."""
        ...

    def prepare(self, connection: Connection) -> None:
        """Makes what must be there before the tables are."""
        ...

    def enter(self, connection: Connection) -> None:
        """Lets plain statements of this transaction find the tables by their names alone."""
        ...

    def damage(self, engine: Engine) -> str:
        """The first damage found; "" for none."""
        ...

    def explain(self, error: DBAPIError) -> str:
        """What went wrong and what to do, for the user."""
        ...

    def is_away(self, error: DBAPIError) -> bool:
        """Whether it was the server that could not be reached, whatever it was to be asked."""
        ...

    def is_held(self) -> bool:
        """Whether a live driver has the run; only looks, and says no where it cannot."""
        ...
