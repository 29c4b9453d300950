"""Folders that cannot be written: readable all the same, and a clear error for a driver."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.engine.store.sql import SqlStore
from tests.contracts.store import measured

ROOT = Path(__file__).parents[4]
OPEN = """
import os, sys
import sqlalchemy
from nas.errors import StoreError
from nas.engine.store.sql import SqlStore
sqlalchemy.create_engine("sqlite://").connect().close()  # all is imported while it still may be
if os.geteuid() == 0:
    os.setuid(65534)  # nobody: permissions do not bind root
try:
    store = SqlStore.open(sys.argv[1], create=False, driver=sys.argv[2] == "driver")
    print(len(store.measurements()))
except StoreError as error:
    print(error)
"""


@pytest.fixture
def path() -> Iterator[Path]:
    """A database in a folder that every user can reach; pytest's own folders are for their owner alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder / "run.db"
        folder.chmod(0o755)


def opened(path: Path, how: str) -> str:
    """What a process bound by permissions says that it read."""
    path.parent.chmod(0o555)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", OPEN, str(path), how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    return result.stdout


def test_a_finished_run_is_read_without_writing_beside_it(path: Path) -> None:
    store = SqlStore.open(path, create=True, driver=True)
    store.add(measured(1))
    store.close()
    before = sorted(path.parent.iterdir())
    assert opened(path, "reader") == "1\n"
    assert sorted(path.parent.iterdir()) == before


def test_a_run_that_another_user_is_writing_is_read(path: Path) -> None:
    store = SqlStore.open(path, create=True, driver=True)
    store.add(measured(1))
    assert opened(path, "reader") == "1\n"
    store.close()


def test_a_driver_is_told_that_it_cannot_write(path: Path) -> None:
    SqlStore.open(path, create=True, driver=True).close()
    path.with_name("run.db.lock").unlink()
    assert "run.db.lock: cannot be written: Permission denied" in opened(path, "driver")
