"""A board that is away, by a real ssh server that stops and starts: no phase of a search fails or loses anything."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hardware_profiles.profiler_factory import SSH_CONFIG
from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.folder import RunsFolder
from nas.errors import NasError
from nas.runs.run import Run
from nas.search.problem.objectives import Status
from nas.service.jobs.ray_head import end_head
from tests.hardware_profiles.sshd import Server, missing, serve
from tests.nas import short_rounds
from tests.nas.commands import SMALL_JOB, Shell
from tests.nas.service.served import Served
from tests.ray_cluster import running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

_BOARD = f"name: board\nssh: board\npython: {sys.executable}\n"
_JOB = SMALL_JOB.replace("cpu-1-thread", "./board.yaml").replace(
    "evaluations: 30, batch: 7", "evaluations: 8, batch: 3"
)
_PATIENCE_S = 240


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (folder := tmp_path / "sshd").mkdir()
    with serve(folder) as running:
        monkeypatch.setenv(SSH_CONFIG, str(running.config))
        yield running


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "board.yaml").write_text(_BOARD)
    return Shell(tmp_path, capsys, monkeypatch)


@contextmanager
def driver(folder: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A command whose output goes to files."""
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(
            short_rounds.command(*arguments),
            cwd=folder,
            env=short_rounds.environment(),
            stdout=out,
            stderr=err,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(folder: Path, process: subprocess.Popen[str], is_reached: Callable[[RunStore], bool]) -> None:
    """Returns once the store of the run says so."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, (folder / "err").read_text()
        try:
            with Run.open(RunsFolder(folder / "runs"), "small-1").store() as store:
                if is_reached(store):
                    return
        except NasError:  # the run is being made
            pass
        time.sleep(0.02)
    raise AssertionError((folder / "err").read_text())


def is_waiting(store: RunStore) -> bool:
    return store.state().waiting.startswith("waits for board since ")


def has_latency(store: RunStore) -> bool:
    return any(measurement.request.profile for measurement in store.measurements())


def check_finished(folder: Path) -> None:
    """All evaluations are there, and none failed."""
    with Run.open(RunsFolder(folder / "runs"), "small-1").store() as store:
        assert store.status() is RunStatus.FINISHED
        assert sum(map(len, store.asks())) == 8
        assert {measurement.status for measurement in store.measurements()} <= {Status.OK, Status.NOISY}
        assert store.state().waiting == ""


def test_a_board_that_is_away_in_the_training_the_search_and_the_final_measurements(
    board: Server, shell: Shell
) -> None:
    folder = shell.folder
    with driver(folder, "search", shell.job(_JOB), "--inline") as process:
        wait_for(folder, process, lambda store: store.status() is RunStatus.RUNNING)
        board.stop()
        wait_for(folder, process, is_waiting)  # the training needs no board; the first evaluations do
        with Run.open(RunsFolder(folder / "runs"), "small-1").store() as store:
            assert store.state().epoch == 4
        shown = shell.nas("show", "small-1")
        assert re.search(r"small-1: running, 0 evaluations; waits for board since \d\d:\d\d, until", shown.out)
        assert "waits for board since" in shell.nas("runs").out
        board.start()
        wait_for(folder, process, has_latency)
        board.stop()
        wait_for(folder, process, is_waiting)
        board.start()
        wait_for(folder, process, lambda store: store.state().stop is not None)
        board.stop()
        wait_for(folder, process, is_waiting)
        board.start()
        assert process.wait(_PATIENCE_S) == 0, (folder / "err").read_text()
    assert (folder / "err").read_text().count("waits for board since") == 3
    check_finished(folder)


def test_a_driver_that_is_killed_while_it_waits_is_resumed_and_waits_again(board: Server, shell: Shell) -> None:
    folder = shell.folder
    with driver(folder, "search", shell.job(_JOB), "--inline") as process:
        wait_for(folder, process, has_latency)
        board.stop()
        wait_for(folder, process, is_waiting)
        process.kill()
        process.wait()
    assert "interrupted" in shell.nas("show", "small-1").out
    with driver(folder, "resume", "small-1", "--inline") as process:
        wait_for(folder, process, is_waiting)
        board.start()
        assert process.wait(_PATIENCE_S) == 0, (folder / "err").read_text()
    check_finished(folder)


def test_after_a_wait_in_vain_a_search_ends_with_the_reason_and_can_be_resumed(board: Server, shell: Shell) -> None:
    folder = shell.folder
    (folder / "board.yaml").write_text(_BOARD + "wait_minutes: 0.05\n")
    with driver(folder, "search", shell.job(_JOB), "--inline") as process:
        wait_for(folder, process, has_latency)
        board.stop()
        assert process.wait(_PATIENCE_S) == 1
    err = (folder / "err").read_text()
    assert re.search(r"error: waited for the machine of profile board since \d\d:\d\d, and it is not back: ", err)
    assert "next: nas resume small-1" in err
    assert "failed" in shell.nas("show", "small-1").out
    refused = shell.nas("resume", "small-1", "--inline")
    assert (refused.code, refused.error) == (1, "worker.machine-lost")
    assert "and it is not back" in refused.err
    board.start()
    assert shell.nas("resume", "small-1", "--inline").code == 0
    check_finished(folder)


def test_a_server_resumes_a_run_by_itself_when_its_board_returns_unless_it_is_cancelled(
    board: Server, tmp_path: Path
) -> None:
    served = Served(tmp_path)
    try:
        profiles = served.folder / "uploads" / "profiles"
        profiles.mkdir(parents=True, exist_ok=True)
        (profiles / "board.yaml").write_text(_BOARD + "wait_minutes: 0.05\n")
        run = served.client.submit(_JOB.replace("./board.yaml", "board")).run
        served.wait(run, evaluations=1)
        board.stop()
        wait_for_reason(served, run, r"waits for board since \d\d:\d\d; try 1 of 150 at \d\d:\d\d")
        assert served.client.status(run).status == "running"
        wait_for_reason(served, run, r"waits for board since \d\d:\d\d; try [2-9] of 150 at \d\d:\d\d")
        board.start()
        ended = served.wait(run, status="finished")
        assert (ended.evaluations, ended.counts.failed) == (8, 0)
        second = served.client.submit(_JOB.replace("./board.yaml", "board")).run
        served.wait(second, evaluations=1)
        board.stop()
        wait_for_reason(served, second, "; try 1 of 150")
        served.client.cancel(second)
        assert served.wait(second, status="cancelled").reason == "cancelled"
    finally:
        served.end(signal.SIGTERM)
        end_head(served.folder)


@pytest.mark.ray
def test_a_ray_node_that_dies_and_is_back_later(shell: Shell) -> None:
    folder = shell.folder
    (folder / "board.yaml").write_text("name: board\nplacement: {hw-board: 1}\n")
    with running_cluster(head_cpus=2) as cluster:
        node = cluster.add_node(num_cpus=0, resources={"hw-board": 1})
        with driver(folder, "search", shell.job(_JOB), "--address", cluster.address) as process:
            for is_reached in (
                has_latency,  # in the search
                lambda store: store.state().stop is not None,  # before the final measurements
            ):
                wait_for(folder, process, is_reached)
                cluster.remove_node(node, allow_graceful=False)
                wait_for(folder, process, is_waiting)
                node = cluster.add_node(num_cpus=0, resources={"hw-board": 1})
            assert process.wait(_PATIENCE_S) == 0, (folder / "err").read_text()
    assert "no live Ray node offers hw-board: 1" in (folder / "err").read_text()
    check_finished(folder)


def wait_for_reason(served: Served, run: str, pattern: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not re.search(pattern, (reason := served.client.status(run).reason)):
        assert time.monotonic() < deadline, (reason, served.client.logs(run))
        time.sleep(0.05)
