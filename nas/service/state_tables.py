"""The tables of the service's database, and their migrations from earlier versions: portable SQL types."""

from __future__ import annotations

import time

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
    text,
)

from nas.engine.store.migrations import Schema

_METADATA = MetaData()
_version = Table("schema_version", _METADATA, Column("version", Integer, primary_key=True, autoincrement=False))
SUBMISSIONS = Table(
    "submissions",
    _METADATA,
    Column("run", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("submitted", Double, nullable=False),
    Column("submitter", String, nullable=False),
    Column("wanted", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("started", Boolean, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("progress", Integer, nullable=False),
    Column("options", JSON, nullable=False),
    Column("priority", String, nullable=False, server_default="normal"),
    Column("place", Integer, nullable=True),
    Column("expected_s", Double, nullable=True),
)
TASKS = Table(
    "tasks",
    _METADATA,
    Column("task", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("of", String, nullable=False),
    Column("submitted", Double, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("result", JSON, nullable=True),
    Column("submitter", String, nullable=False, server_default=""),
)
OWNERS = Table(
    "owners",
    _METADATA,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("owner", String, nullable=False),
)

WEBHOOKS = Table(
    "webhooks",
    _METADATA,
    Column("run", String, primary_key=True),
    Column("url", String, nullable=False),
    Column("secret", String, nullable=False),
)
ENDS = Table(
    "ends",
    _METADATA,
    Column("run", String, primary_key=True),
    Column("ended", Double, nullable=False),
)
DELIVERIES = Table(
    "deliveries",
    _METADATA,
    Column("id", String, primary_key=True),
    Column("run", String, nullable=False),
    Column("url", String, nullable=False),
    Column("secret", String, nullable=False),
    Column("body", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", Double, nullable=False),
)

USAGE = Table(
    "usage",
    _METADATA,
    Column("person", String, primary_key=True),
    Column("seconds", Double, nullable=False),
    Column("time", Double, nullable=False),
)


def _add_owners(connection: Connection) -> None:
    """Adds the owners of uploads and the submitters of tasks, which version 1 did not record."""
    OWNERS.create(connection)
    connection.execute(text("ALTER TABLE tasks ADD COLUMN submitter VARCHAR NOT NULL DEFAULT ''"))


def _add_webhooks(connection: Connection) -> None:
    """Adds notifications of the ends of runs; those of runs that were submitted before are not notified."""
    for table in (WEBHOOKS, ENDS, DELIVERIES):
        table.create(connection)
    for run in connection.execute(select(SUBMISSIONS.c.run)).scalars().all():
        connection.execute(insert(ENDS).values(run=run, ended=time.time()))


def _add_fair_share(connection: Connection) -> None:
    """Adds priorities, places and expected durations of submissions, and the time that people used."""
    USAGE.create(connection)
    for column in ("priority VARCHAR NOT NULL DEFAULT 'normal'", "place INTEGER", "expected_s DOUBLE"):
        connection.execute(text(f"ALTER TABLE submissions ADD COLUMN {column}"))


SCHEMA = Schema(_METADATA, _version, migrations=(_add_owners, _add_webhooks, _add_fair_share))
"""A change to the tables above needs a migration of existing databases."""
