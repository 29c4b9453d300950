"""A search whose disk is full, or whose database another program locks, ends with what to do, and goes on afterwards."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.engine.store import sqlite
from nas.engine.store.base import RunStatus
from nas.engine.store.sql import SqlStore
from nas.errors import StoreError
from tests.contracts.store import measured
from tests.nas.test_kills import check_uninterrupted

ROOT = Path(__file__).parents[4]
_SIZE_KIB, _ROOM_KIB = 16 * 1024, 160
SEARCH = """
import os, resource, signal, sys
from collections.abc import Iterator
from pathlib import Path
from nas.errors import StoreError
from tests.nas.table_search import drive
if limit := int(sys.argv[3]):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    drive(Path(sys.argv[1]), "nsga2", 0, 120, 0.0, Path(sys.argv[2]))
except StoreError as error:
    print(error)
"""


def search(database: Path, counter: Path, *, largest_file: int = 0) -> str:
    """Drives a search in a process of its own, and returns the error that ends it, if any."""
    command = [sys.executable, "-c", SEARCH, database, counter, str(largest_file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_KIB}k", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_a_search_which_goes_on_when_there_is_room(small_disk: Path) -> None:
    database, counter = small_disk / "run.db", small_disk.parent / "counted"
    ballast = small_disk / "ballast"
    SqlStore.open(database, create=True, driver=True).close()
    stats = os.statvfs(small_disk)
    ballast.write_bytes(bytes(stats.f_bavail * stats.f_frsize - _ROOM_KIB * 1024))
    assert "check the free space" in search(database, counter)
    counted = int(counter.read_text().split()[-1])
    ballast.unlink()
    reader = SqlStore.open(database, create=False, driver=False)
    assert reader.status() is RunStatus.RUNNING
    assert len(reader.measurements()) >= 2 * counted > 0
    reader.close()
    assert search(database, counter) == ""
    check_uninterrupted(database, "nsga2", 0)


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    database, counter = tmp_path / "run.db", tmp_path / "counted"
    # To SQLite it is what a full disk is, and needs no right to mount one.
    assert "check the free space" in search(database, counter, largest_file=120 * 1024)
    assert search(database, counter) == ""
    check_uninterrupted(database, "nsga2", 0)


def test_a_database_that_another_program_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_TIMEOUT_S", 0.2)
    store = SqlStore.open(tmp_path / "run.db", create=True, driver=True)
    store.add(measured(1))
    other = sqlite3.connect(tmp_path / "run.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # as a browser of databases does, and is then left open
    with pytest.raises(StoreError, match=r"is locked by another process .*; stop that process"):
        store.add(measured(2))
    other.execute("ROLLBACK")
    other.close()
    store.add(measured(2))
    assert len(store.measurements()) == 2
    store.close()
