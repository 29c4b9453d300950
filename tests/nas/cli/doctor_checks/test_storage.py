"""Unusable runs folders, unreadable runs, and databases of a previous version."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from nas.cli.doctor_checks import storage
from nas.cli.doctor_checks.finding import State
from nas.engine.store import tables
from nas.engine.store.folder import RunsFolder
from nas.engine.store.sql import SqlStore
from nas.service import state as service
from tests.data import first_versions


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    return RunsFolder(tmp_path / "runs")


def made(runs: RunsFolder, name: str) -> Path:
    folder = runs.create(name, f"name: {name}\n")
    SqlStore.open(folder.database, create=True, driver=True).close()
    return folder.database


def nothing(connection: Connection) -> None:
    """A migration without effect."""


def test_a_missing_folder_is_not_created(runs: RunsFolder) -> None:
    found = storage.runs_folder(runs)
    assert (found.state, found.observation) == (State.OK, f"{runs.root} is created by the first run")
    assert list(runs.root.parent.iterdir()) == []


def test_a_writable_folder_is_not_changed(runs: RunsFolder) -> None:
    runs.root.mkdir()
    assert storage.runs_folder(runs).state is State.OK
    assert list(runs.root.iterdir()) == []


@pytest.mark.parametrize("below", [".", "folder"])
def test_a_file_in_its_place(runs: RunsFolder, below: str) -> None:
    runs.root.write_text("")
    found = storage.runs_folder(RunsFolder(runs.root / below))
    assert found.state is State.WRONG
    assert "--runs" in found.remedy


def test_no_runs(runs: RunsFolder) -> None:
    assert [(f.state, f.observation) for f in storage.runs_in(runs)] == [(State.OK, "none yet")]


def test_readable_damaged_and_new_runs(runs: RunsFolder) -> None:
    well, bad, beginning = (made(runs, name) for name in ("well", "bad", "beginning"))
    assert [(f.state, f.observation) for f in storage.runs_in(runs)] == [(State.OK, "3, all readable")]
    bad.write_bytes(b"no database")
    driver = SqlStore.open(beginning, create=False, driver=True)
    with closing(sqlite3.connect(beginning)) as connection:
        connection.execute("DROP TABLE schema_version")
        connection.commit()
    (found,) = storage.runs_in(runs)
    driver.close()
    assert found.state is State.WRONG
    assert found.observation.startswith("bad-1: ")
    assert "restore bad-1" in found.remedy
    assert well.exists()


def test_of_many_damaged_runs_some_are_named(runs: RunsFolder) -> None:
    for n in range(8):
        made(runs, f"bad{n}").write_bytes(b"no database")
    findings = storage.runs_in(runs)
    assert len(findings) == 6
    assert findings[-1].observation == "3 more are not readable"


def test_runs_of_a_previous_version(runs: RunsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    made(runs, "old")
    monkeypatch.setattr(tables, "SCHEMA", replace(tables.SCHEMA, migrations=(nothing,)))
    (found,) = storage.runs_in(runs)
    assert (found.state, found.remedy) == (State.WARNING, "upgrade them with: nas upgrade")
    assert found.observation == "old-1: written by a previous version"


def test_the_services_own_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "service.db"
    assert storage.service_state(path) == []
    service.ServiceState.open(path).close()
    assert storage.service_state(path)[0].observation == f"{path} is readable"
    path.unlink()
    first_versions.make("service", path)
    (old,) = storage.service_state(path)
    assert old.state is State.OK
    assert "previous version" in old.observation
    path.write_bytes(b"no database" * 100)
    assert [f.state for f in storage.service_state(path)] == [State.WRONG]


def test_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from supernets.data import fashion_mnist

    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert storage.data_sets().state is State.WARNING
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(b"")
    assert storage.data_sets().observation == f"digits, fashion-mnist ({tmp_path})"
