"""`nas plot`, `cascade`, `calibrate` and `finetune` of a server's runs: real jobs and tasks in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nas import short_rounds
from tests.nas.commands import SMALL_JOB, Shell
from tests.nas.service.served import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("artifacts"))
    server.wait(server.client.submit(SMALL_JOB).run, status="finished")
    yield server
    server.end(signal.SIGINT)


def nas(served: Served, folder: Path, *arguments: str) -> Any:
    """The JSON of a command for the server."""
    words = [*arguments, "--server", served.url, "--json"]
    done = subprocess.run(
        short_rounds.command(*words), cwd=folder, env=short_rounds.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_plots_cascades_tables_and_fine_tuned_networks_are_made_by_a_server(served: Served, tmp_path: Path) -> None:
    plots = nas(served, tmp_path, "plot", "small-1", "-o", "plots")
    assert "plots/front.html" in plots["paths"]
    assert all((tmp_path / path).stat().st_size > 1000 for path in plots["paths"])
    assert nas(served, tmp_path, "plot", "small-1", "-o", "plots")["paths"] == plots["paths"]  # replaced

    table = nas(served, tmp_path, "cascade", "small-1")
    assert len(table["numbers"]) == len(table["networks"])
    row = next(row["number"] for row in table["rows"] if row["cascade"]["large"] is not None)
    exported = nas(served, tmp_path, "cascade", "small-1", "--row", str(row), "--test", "-o", "cascade")
    assert (tmp_path / "cascade" / "cascade.json").is_file()
    assert exported["export"]["manifest"] == "cascade.json"  # without the server's path
    assert 0 < exported["test"]["cascade"]["accuracy"] <= 1

    calibrated = nas(
        served, tmp_path, "calibrate", "cpu-1-thread", "--run", "small-1", "--subnets", "4", "-o", "t.json"
    )
    assert json.loads((tmp_path / "t.json").read_text())["profile"]["name"] == "cpu-1-thread"
    job = f"{SMALL_JOB}lookup_tables: [{calibrated['table']}]\n"
    run = served.client.submit(job.replace("evaluations: 30", "evaluations: 8")).run
    served.wait(run, status="finished")

    tuned = nas(served, tmp_path, "finetune", "small-1", "--epochs", "1")
    assert served.wait(tuned["run"], status="finished").epochs == 1
    text = served.client.detail(tuned["run"]).job
    assert str(served.root) not in text


def test_options_belong_to_one_place(shell: Shell) -> None:
    here = ("--server", "http://127.0.0.1:9")
    assert "--runs is for runs on this machine" in shell.nas("plot", "a-1", "--runs", "x", *here).err
    assert "--inline is for runs on this machine" in shell.nas("finetune", "a-1", "--inline", *here).err
    assert "--token is for runs on a server" in shell.nas("cascade", "a-1", "--token", "x").err
    assert "--run RUN" in shell.nas("calibrate", "cpu-1-thread", *here).err
    assert "--job JOB" in shell.nas("calibrate", "cpu-1-thread").err
    assert "--job is for" in shell.nas("calibrate", "cpu-1-thread", "--job", "j.yaml", *here).err
