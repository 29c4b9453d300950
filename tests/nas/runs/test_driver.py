"""`nas.runs.driver`: what is told before a run is made, and what a resumed search starts from."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nas.engine.progress import ProgressObserver
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.errors import Remedy, remedy_of
from nas.jobs.run import preparation
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, load_job, parse_job
from nas.runs import driver
from nas.runs.driver import resume, train
from nas.runs.driver import run as search
from nas.runs.run import Run, open_run
from supernets.training.distributed import check_capacity
from supernets.training.trainer import Epoch
from tests.errors import raises
from tests.full_disk import files_of_at_most
from tests.nas.commands import SMALL_JOB


def job_of(workers: int) -> SearchJob:
    training = f"training: {{epochs: 1, batch_size: 2048, workers: {workers}}}"
    return parse_job(re.sub(r"training: .*", training, SMALL_JOB), source="job.yaml")


@pytest.mark.parametrize("drive", [train, search])
def test_more_workers_than_there_is_room_for_are_told_before_a_run_is_made(
    drive: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spreads: list[bool] = []

    def cluster(address: str | None, *, spread: bool, profiles: Any = ()) -> AbstractContextManager[None]:
        spreads.append(spread)
        return nullcontext()

    def check(workers: int, threads: int, device: Any) -> None:
        check_capacity([{"CPU": 2}], workers, {"CPU": threads})

    monkeypatch.setattr(preparation, "connected", cluster)
    monkeypatch.setattr(preparation, "check_workers", check)
    with raises("training.workers-unavailable", "training.workers: 3", "1 CPU each", "2 CPU in total"):
        drive(job_of(3), RunOptions(RunsFolder(tmp_path / "runs")))
    assert spreads == [True]
    assert not list(tmp_path.rglob("small-*"))


def test_one_worker_trains_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_ray(*args: object) -> None:
        raise AssertionError("Ray takes seconds to start, and nothing needs it")

    monkeypatch.setattr("nas.engine.evaluation.cluster.start_ray", start_ray)
    assert train(job_of(1), RunOptions(RunsFolder(tmp_path / "runs"))).kind == "training"


def test_workers_of_a_resumed_training_need_ray_too(tmp_path: Path) -> None:
    run = train(job_of(1), RunOptions(RunsFolder(tmp_path / "runs")))
    store = open_store(run.folder, driver=True)
    store.update_state(epoch=0)
    store.set_status(RunStatus.CANCELLED, reason="interrupted")
    store.close()
    run.folder.job_file.write_text(job_of(2).to_yaml())
    with raises("job.workers-need-ray", "small-1/job.yaml: training.workers: 2"):
        resume("small-1", RunOptions(run.runs, inline=True))
    with run.store() as unchanged:
        assert unchanged.status() is RunStatus.CANCELLED


def test_ray_that_starts_too_slowly_is_an_error_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**settings: object) -> None:  # as Ray does on a machine that is too busy, after 30 seconds
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", init)
    with raises("cluster.not-started", "timed out during startup", "inline", remedy=Remedy("doctor")):
        search(job_of(1), RunOptions(RunsFolder(tmp_path / "runs")))
    assert not list(tmp_path.rglob("small-*"))


class Notes(ProgressObserver):
    """Keeps notes and epochs, and interrupts a training after one of its epochs."""

    def __init__(self, *, interrupted_after: int = 0) -> None:
        self.notes: list[str] = []
        self.epochs: list[int] = []
        self._interrupted_after = interrupted_after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        self.epochs.append(epoch.epoch)
        if epoch.epoch == self._interrupted_after:
            raise KeyboardInterrupt


def test_a_checkpoint_that_is_gone_is_announced_and_its_supernet_trained_again(tmp_path: Path) -> None:
    job, runs = parse_job(SMALL_JOB.replace("epochs: 4", "epochs: 2"), source="job.yaml"), RunsFolder(tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt):
        train(job, RunOptions(runs, observer=Notes(interrupted_after=1)))
    shutil.rmtree(runs.get("small-1").checkpoint)
    again = Notes()
    resume("small-1", RunOptions(runs, observer=again))
    assert again.epochs == [1, 2]
    (note,) = [text for text in again.notes if "no checkpoint" in text]
    assert "small-1/checkpoint" in note
    assert "1 of 2 epochs" in note


def test_a_full_disk_ends_a_training_with_a_reason_and_it_can_be_resumed(tmp_path: Path) -> None:
    job, runs = parse_job(SMALL_JOB.replace("epochs: 4", "epochs: 2"), source="job.yaml"), RunsFolder(tmp_path / "runs")
    with (
        files_of_at_most(100 * 2**10),
        raises("checkpoint.unwritable", "small-1/checkpoint", "File too large", "resume"),
    ):
        train(job, RunOptions(runs))
    with Run.open(runs, "small-1").store() as store:
        assert (store.status(), "File too large" in store.reason()) == (RunStatus.FAILED, True)
    assert not list(runs.get("small-1").checkpoint.iterdir())
    assert resume("small-1", RunOptions(runs)).kind == "training"


@pytest.mark.parametrize("drive", [train, search])
@pytest.mark.parametrize("job", ["job.yaml", {"name": "small"}, None])
def test_what_is_no_job_is_named(drive: Callable[..., Run], job: Any) -> None:
    with raises("job.invalid-value", "nas.load_job"):
        drive(job)


@pytest.mark.parametrize("call", [load_job, open_run, partial(open_run, "small-1"), RunOptions])
def test_what_is_no_path_is_named(call: Callable[[Any], object]) -> None:
    with raises("job.invalid-value", "got None"):
        call(None)


def test_the_folder_of_runs_can_be_a_path(tmp_path: Path) -> None:
    assert RunOptions(runs=str(tmp_path)).runs == RunsFolder(tmp_path)  # type: ignore[arg-type]


def test_the_name_of_an_algorithm_belongs_into_the_job() -> None:
    with raises("plugin.contract", "algorithm='nsga2'", "search.algorithm"):
        search(parse_job(SMALL_JOB, source="job.yaml"), algorithm="nsga2")


def test_an_interruption_before_a_run_begins_names_no_run_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "describe", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        search(parse_job(SMALL_JOB, source="job.yaml"), RunOptions(RunsFolder(tmp_path / "runs"), inline=True))
    assert remedy_of(caught.value) is None
