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
from tests.postgres_server import Server, binaries, running_server

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


@pytest.mark.slow
@pytest.mark.skipif(binaries() is None, reason="needs the programs of a PostgreSQL server")
def test_a_search_waits_for_a_database_server_that_restarts_and_resumes_after_a_kill_meanwhile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(tmp_path, capsys, monkeypatch)
    with running_server() as server:
        command = short_rounds.command("search", shell.job(_JOB), "--inline", "--store", server.url)
        drivers: dict[str, list[str]] = {
            "search": command,
            "resume": short_rounds.command("resume", "small-1", "--inline"),
        }
        for name, arguments in drivers.items():
            with (tmp_path / f"{name}.err").open("w+") as err:
                driver = subprocess.Popen(
                    arguments, cwd=tmp_path, env=short_rounds.environment(), stdout=subprocess.DEVNULL, stderr=err
                )
                try:
                    if name == "search":
                        wait_until_measuring(RunsFolder(tmp_path / "runs"), driver)
                    server.stop(crash=name == "search")
                    wait_for_text(tmp_path / f"{name}.err", driver, "waits for the database server since ")
                    refused = shell.nas("show", "small-1")  # does not wait
                    assert refused.error == "store.unreachable"
                    if name == "search":
                        driver.kill()
                        driver.wait()
                    server.start()
                    if name == "resume":
                        wait_until_measuring(RunsFolder(tmp_path / "runs"), driver)
                        server.stop()
                        time.sleep(1)  # in which statements fail
                        server.start()
                        assert driver.wait(_PATIENCE_S) == 0, (tmp_path / f"{name}.err").read_text()
                finally:
                    driver.kill()
                    driver.wait()
        with Run.open(RunsFolder(tmp_path / "runs"), "small-1").store() as store:
            assert [status for status, _ in store.statuses()] == ["running", "running", "finished"]
            assert sum(map(len, store.asks())) == 8
            assert store.failures() == []


def wait_for_text(path: Path, driver: subprocess.Popen[bytes], text: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while text not in path.read_text():
        assert driver.poll() is None, path.read_text()
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.05)


def wait_until_measuring(runs: RunsFolder, driver: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
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
