"""A search whose rows are in PostgreSQL: killed, resumed, shown, plotted and exported like any other."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.errors import NasError
from nas.runs.run import Run
from tests.nas import short_rounds
from tests.nas.commands import SMALL_JOB, Shell
from tests.postgres_server import Server

_JOB = SMALL_JOB.replace("evaluations: 30, batch: 7", "evaluations: 8, batch: 3").replace("epochs: 4", "epochs: 1")
_PATIENCE_S = 240


@pytest.mark.slow
def test_a_run_in_postgresql_from_its_start_to_its_export(
    postgres: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(tmp_path, capsys, monkeypatch)
    job = shell.job(_JOB)
    command = short_rounds.command("search", job, "--inline", "--store", postgres.url)
    with subprocess.Popen(
        command, cwd=tmp_path, env=short_rounds.environment(), stderr=subprocess.PIPE, text=True
    ) as driver:
        wait_until_measuring(RunsFolder(tmp_path / "runs"), driver)
        (row,) = shell.nas("runs", "--json").data
        assert (row["status"], row["live"]) == ("running", True)
        driver.kill()
    folder = tmp_path / "runs" / "small-1"
    assert not (folder / "run.db").exists()
    assert "interrupted" in shell.nas("runs").out
    resumed = shell.nas("resume", "small-1", "--inline", "--json")
    assert resumed.code == 0, resumed.err
    assert (resumed.data["status"], resumed.data["evaluations"]) == ("finished", 8)
    assert shell.nas("show", "small-1", "--json").data["front"] == resumed.data["front"]
    assert shell.nas("plot", "small-1").code == 0
    assert shell.nas("export", "small-1", "-o", "model.onnx").code == 0
    assert (tmp_path / "model.onnx").is_file()
    monkeypatch.setenv("NAS_STORE", postgres.url.replace("/nas?", "/missing?"))
    refused = shell.nas("search", job, "--inline")
    assert refused.code == 1
    assert "createdb missing" in refused.err
    assert shell.runs() == {"small-1"}


def wait_until_measuring(runs: RunsFolder, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        assert driver.poll() is None, driver.communicate()
        try:
            with Run.open(runs, "small-1").store() as store:
                if store.measurements():
                    return
        except NasError:  # the run is being made
            pass
        time.sleep(0.1)
    raise AssertionError(f"nothing was measured in {_PATIENCE_S} s")
