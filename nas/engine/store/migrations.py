"""How the tables of earlier versions become those of this one: the same way for a run's database and the service's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, MetaData, Table, insert, select, update

from nas.errors import OutdatedStoreError, Remedy, StoreError

Migration = Callable[[Connection], None]
"""Turns the tables of one version into those of the next one, by plain statements that every database here understands; run
in a transaction of the caller's, so that it changes all or nothing."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of a database as they are now, and the way to them from every earlier version.

    Attributes:
        tables: Tables as this version of the program reads them.
        version: The table that holds a single number, the version of the others.
        migrations: the first turns version 1 into version 2, and so on; none is ever removed.
    """

    tables: MetaData
    version: Table
    migrations: tuple[Migration, ...] = ()

    @property
    def latest(self) -> int:
        """The version of `tables`."""
        return 1 + len(self.migrations)

    def make(self, connection: Connection) -> None:
        """Makes the tables in an empty database."""
        self.tables.create_all(connection)
        connection.execute(insert(self.version).values(version=self.latest))

    def upgrade(self, connection: Connection, *, name: str) -> None:
        """Brings the tables up to this version, within the caller's transaction; `StoreError` if they are of a later one."""
        version = self._stored_version(connection, name)
        if version == self.latest:
            return
        for migration in self.migrations[version - 1 :]:
            migration(connection)
        connection.execute(update(self.version).values(version=self.latest))

    def check(self, connection: Connection, *, name: str) -> None:
        """Raises `OutdatedStoreError` if the tables are of an earlier version, `StoreError` if of a later one or none."""
        version = self._stored_version(connection, name)
        if version < self.latest:
            raise OutdatedStoreError(
                f"{name}: was written by an earlier version of this program (tables of version {version}; this one reads "
                f"{self.latest}); upgrade the runs folder",
                remedy=Remedy("upgrade"),
            )

    def _stored_version(self, connection: Connection, name: str) -> int:
        version: int | None = connection.execute(select(self.version.c.version)).scalar_one_or_none()
        if version is None or not 1 <= version <= self.latest:
            raise StoreError(
                f"{name}: was written by another version of this program (tables of version {version}; this one reads "
                f"{self.latest}); open it with the version that made it, or start anew",
                code="store.unknown-version",
            )
        return version
