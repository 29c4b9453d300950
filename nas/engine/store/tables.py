"""The tables of a run's database, in portable SQL types; times are seconds since the epoch."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from nas.engine.store.measurement_rows import REQUEST_COLUMNS
from nas.engine.store.migrations import Schema

METADATA = MetaData()

version = Table("schema_version", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))

info = Table("info", METADATA, Column("name", String, primary_key=True), Column("value", JSON, nullable=False))

status = Table(  # one row a change; the last one holds
    "status",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("status", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("time", Double, nullable=False),
)

asks = Table(
    "asks",
    METADATA,
    Column("step", Integer, primary_key=True, autoincrement=False),
    # A list of keys; where others were pending, {"asked": keys, "told": keys of what was told since the ask before}.
    Column("architectures", JSON, nullable=False),
    Column("time", Double, nullable=False),
)

measurements = Table(
    "measurements",
    METADATA,
    Column("id", Integer, primary_key=True),
    *(Column(name, String, nullable=False) for name in REQUEST_COLUMNS),
    Column("attempt", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("value", Double),
    Column("error", Double),
    Column("weights", String, nullable=False),
    Column("data", String, nullable=False),
    Column("protocol", String, nullable=False),
    Column("environment", JSON, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("message", Text, nullable=False),
    Column("time", Double, nullable=False),
    UniqueConstraint(*REQUEST_COLUMNS, "attempt"),
)

samples = Table(  # apart, so that no front and no page reads them
    "samples",
    METADATA,
    Column("measurement", ForeignKey("measurements.id"), primary_key=True, autoincrement=False),
    Column("samples", LargeBinary, nullable=False),
)

fits = Table(
    "fits",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("step", Integer, nullable=False),
    Column("objective", String, nullable=False),
    Column("quality", JSON, nullable=False),
    UniqueConstraint("step", "objective"),
)

events = Table(
    "events",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("time", Double, nullable=False),
)

lease = Table(  # one row; the number goes up with every driver that opens the run
    "lease",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("host", String, nullable=False),
    Column("time", Double, nullable=False),
)

SCHEMA = Schema(METADATA, version, migrations=())
"""Every change to the tables above comes with a migration that makes it in databases of before."""
