"""Databases as the first version of their tables had them, from the SQL beside this file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

FOLDER = Path(__file__).parent


def make(name: str, path: Path) -> Path:
    """A database of version 1: ``run`` or ``service``."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FOLDER / f"{name}-v1.sql").read_text(encoding="utf-8"))
    return path
