"""Runs whose driver is killed or interrupted in the middle, through Ray and inline, go on to the uninterrupted end."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.engine.run_listing import run_rows
from nas.engine.store.folder import RunsFolder
from nas.engine.store.run_state import RunState
from nas.errors import NasError
from nas.runs.run import Run
from tests.dense_scenes import make_parts, write_coco
from tests.nas import short_rounds
from tests.nas.commands import SMALL_JOB, Shell

_JOB = SMALL_JOB.replace("batch: 7", "batch: 4, workers: 2")
_PATIENCE_S = 240


def nas(folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        short_rounds.command(*args), cwd=folder, env=short_rounds.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, err
    return out


def progress_of(folder: Path, run: str) -> tuple[str, int]:
    rows = run_rows(RunsFolder(folder / "runs")) if (folder / "runs").is_dir() else []
    return next(((row.status, row.done) for row in rows if row.run == run), ("absent", 0))


def wait_for(folder: Path, run: str, done: int) -> int:
    """Waits until so many evaluations are committed; returns how many are."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        _, came = progress_of(folder, run)
        if came >= done:
            return came
        time.sleep(0.05)
    raise AssertionError(f"{run} did not reach {done} evaluations in {_PATIENCE_S} s")


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.mark.slow
@pytest.mark.ray
def test_a_kill_through_ray_ends_with_the_uninterrupted_front(shell: Shell, tmp_path: Path) -> None:
    shell.job(_JOB.replace("epochs: 4", "epochs: 1"))
    whole = json.loads(finish(nas(tmp_path, "search", "job.yaml", "--json")))
    assert (whole["run"], whole["evaluations"]) == ("small-1", 30)
    # The same search again, with the first one's measurements where it has them, killed on the way.
    driver = nas(tmp_path, "search", "job.yaml", "--replay", "small-1")
    counted = wait_for(tmp_path, "small-2", 3)
    driver.kill()
    driver.communicate(timeout=_PATIENCE_S)
    status, kept = progress_of(tmp_path, "small-2")
    assert kept >= counted
    if status != "finished":
        finish(nas(tmp_path, "resume", "small-2", "--json"))
    shown = shell.nas("show", "small-2", "--json").data
    assert shown["status"] == "finished"
    assert shown["front"] == whole["front"]
    assert shown["evaluations"] == 30


def state_of(runs: RunsFolder, run: str) -> RunState:
    """The defaults while the run is still being made."""
    try:
        with Run.open(runs, run).store() as store:
            return store.state()
    except NasError:
        return RunState()


_CLASSIFIER = _JOB.replace("guided, evaluations: 30", "random, evaluations: 12")
_DETECTOR = """
name: small
seed: 3
task: detection
data: {name: coco, path: scenes/annotations, image_size: 64, channels: 3}
supernet: {family: detector, preset: tiny}
training: {epochs: 3, batch_size: 16, random_subnets: 1}
objectives: [map, latency_ms]
search: {algorithm: random, evaluations: 12, batch: 4, workers: 2}
calibration_images: 32
"""


@pytest.mark.slow
@pytest.mark.parametrize("job", [_CLASSIFIER, _DETECTOR], ids=["classifier", "detector"])
def test_kills_in_training_and_in_the_final_stage(shell: Shell, tmp_path: Path, job: str) -> None:
    if job is _DETECTOR:
        write_coco(make_parts(64, 24, 24, sides=(64, 80)), tmp_path / "scenes")
    shell.job(job)
    whole = shell.nas("train", "job.yaml", "--json").data
    driver = nas(tmp_path, "search", "job.yaml", "--inline")
    runs = RunsFolder(tmp_path / "runs")

    def kill_when(reached: Callable[[RunState], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            assert driver.poll() is None, driver.communicate()
            if reached(state_of(runs, "small-2")):
                break
            time.sleep(0.02)
        else:
            raise AssertionError(f"small-2 is not there after {_PATIENCE_S} s")
        driver.kill()
        driver.communicate(timeout=_PATIENCE_S)

    kill_when(lambda state: state.epoch > 0)
    driver = nas(tmp_path, "resume", "small-2", "--inline")
    kill_when(lambda state: bool(state.finalists))
    with Run.open(runs, "small-2").store() as store:
        asked = store.asks()
        assert store.state().weights == whole["weights"]  # trained in two parts, and the same
    made = shell.nas("resume", "small-2", "--inline", "--json").data
    assert (made["status"], made["evaluations"]) == ("finished", 12)
    with Run.open(runs, "small-2").store() as store:
        assert store.asks() == asked


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_can_be_resumed(shell: Shell, tmp_path: Path) -> None:
    # As many that it does not end before the signal comes.
    shell.job(_JOB.replace("guided, evaluations: 30", "random, evaluations: 40").replace("epochs: 4", "epochs: 1"))
    driver = nas(tmp_path, "search", "job.yaml", "--inline")
    wait_for(tmp_path, "small-1", 4)
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=_PATIENCE_S)
    assert driver.returncode == 130
    assert "nas resume" in err
    status, _ = progress_of(tmp_path, "small-1")
    assert status == "cancelled"
    resumed = shell.nas("resume", "small-1", "--inline", "--json").data
    assert (resumed["status"], resumed["evaluations"]) == ("finished", 40)
