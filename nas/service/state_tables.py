"""The tables of ``runs/service.db``, in portable SQL types; times are seconds since the epoch."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Double, Integer, MetaData, String, Table, Text

from nas.store.migrations import Schema

METADATA = MetaData()
version = Table("schema_version", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))
submissions = Table(
    "submissions",
    METADATA,
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
)
tasks = Table(
    "tasks",
    METADATA,
    Column("task", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("of", String, nullable=False),
    Column("submitted", Double, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("result", JSON, nullable=True),
)

SCHEMA = Schema(METADATA, version, migrations=())
"""A change to the tables above needs a migration of existing databases."""
