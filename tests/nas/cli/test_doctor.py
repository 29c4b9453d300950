"""`nas doctor` tells of everything, and ends with 1 where something is wrong; `nas upgrade` brings runs up to date."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from nas.engine.store import tables
from nas.engine.store.folder import RunsFolder
from nas.engine.store.sql import SqlStore
from tests.nas.commands import Shell

CHECKS = {"python", "packages", "onnxruntime", "profiles", "cpus", "threads", "memory", "disk", "runs folder", "runs", "torch",
          "data sets", "ray"}  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in ("NAS_SERVER", "NAS_TOKEN", "NAS_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.fixture
def run(shell: Shell) -> Path:
    """The database of a run in the shell's folder."""
    database = RunsFolder(shell.folder / "runs").create("small", "name: small\n").database
    SqlStore.open(database, create=True, driver=True).close()
    return database


def test_everything_is_looked_at(shell: Shell, run: Path) -> None:
    found = shell.nas("doctor", "--json")
    assert found.code == 0, found.out
    assert {finding["check"] for finding in found.data} >= CHECKS
    assert {finding["state"] for finding in found.data} <= {"ok", "warning"}
    assert all(bool(finding["remedy"]) is (finding["state"] != "ok") for finding in found.data)


def test_what_is_wrong_is_told_with_what_to_do(shell: Shell, run: Path) -> None:
    run.write_bytes(b"no database")
    found = shell.nas("doctor", "--server", "http://127.0.0.1:9", "--address", "127.0.0.1:9")
    assert found.code == 1
    wrong = [line.split()[1] for line in found.out.splitlines() if line.startswith("WRONG")]
    assert wrong == ["runs", "ray", "server"]
    assert "restore small-1 from a copy" in found.out
    n_warnings = sum(line.startswith("warning") for line in found.out.splitlines())
    assert found.out.splitlines()[-1] == f"3 wrong, {n_warnings} warning{'s' * (n_warnings != 1)}"


def test_upgrade(shell: Shell, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def colour(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE status ADD COLUMN colour VARCHAR")

    assert shell.nas("upgrade", "--json").data == {"small-1": "is up to date"}
    monkeypatch.setattr(tables, "SCHEMA", replace(tables.SCHEMA, migrations=(colour,)))
    listed = shell.nas("runs", "--json").data
    assert listed[0]["next"] == "nas upgrade"
    assert shell.nas("upgrade", "--json").data == {"small-1": "brought up to date"}
    assert shell.nas("runs", "--json").data[0]["status"] != "damaged"
    run.write_bytes(b"no database")
    damaged = shell.nas("upgrade")
    assert damaged.code == 1
    assert "damaged or no database" in damaged.out
