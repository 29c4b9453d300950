"""`nas.jobs.build.trained_run`: what an export needs of a run, and what it does without."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.build.trained_run import load_trained_run
from nas.jobs.resolve.references import check_training
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from nas.runs.driver import RunOptions, train
from nas.runs.run import Run
from supernets.training.checkpoint import save_checkpoint
from tests.errors import raises
from tests.nas.commands import SMALL_JOB

PROFILE = "name: board\ndescription: of this test\nthreads: 1\nbatch_size: 1\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that learnt from a teacher, on a profile of a file of its own."""
    folder = tmp_path_factory.mktemp("trained")
    runs = RunsFolder(folder / "runs")
    (folder / "board.yaml").write_text(PROFILE)
    short = re.sub(r"training: .*\n", "training: {epochs: 1, batch_size: 256}\n", SMALL_JOB)
    (folder / "teacher.yaml").write_text(short.replace("name: small", "name: teacher"))
    taught = short.replace("training: {", "training: {teacher: teacher-1, ")
    (folder / "job.yaml").write_text(re.sub(r"hardware: .*\n", "hardware: [./board.yaml]\n", taught))
    for name in ("teacher", "job"):
        train(load_job(folder / f"{name}.yaml"), RunOptions(runs))
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    shutil.copytree(folder / "runs" / "small-1", tmp_path / "runs" / "small-1")
    return Run.open(RunsFolder(tmp_path / "runs"), "small-1")


def test_teacher_profiles_and_training_settings_are_not_needed(folder: Path, run: Run) -> None:
    runs = RunsFolder(folder / "runs")
    built_job = build_job(ResolvedJob(run.job, runs))
    text = run.folder.job_file.read_text()
    assert "teacher-1" in text
    run.folder.job_file.write_text(
        re.sub(r"/\S*board\.yaml", "/gone/board.yaml", text).replace("threads: 1", "threads: 1024")
    )
    with raises("job.too-many-threads", "1024"):
        check_training(ResolvedJob(run.job, runs), "training")
    loaded = load_trained_run(run)
    assert loaded.data.digests() == built_job.data.digests()
    torch.testing.assert_close(loaded.data.calibration.inputs, built_job.data.calibration.inputs, rtol=0, atol=0)
    space = loaded.checkpoint.supernet.space
    assert (space.smallest, space.largest) == (built_job.space.smallest, built_job.space.largest)


@pytest.mark.parametrize(
    ("was", "now", "key"),
    [
        ("validation: 0.25", "validation: 0.2", "data"),
        ("calibration_images: 300", "calibration_images: 200", "calibration_images"),
    ],
)
def test_other_data_than_the_run_s_are_rejected(run: Run, was: str, now: str, key: str) -> None:
    text = run.folder.job_file.read_text()
    assert was in text
    run.folder.job_file.write_text(text.replace(was, now))
    with raises("run.incompatible", "small-1", key):
        load_trained_run(run)


def test_other_weights_than_the_run_s_are_rejected(run: Run) -> None:
    loaded = load_trained_run(run).checkpoint
    with torch.no_grad():
        next(iter(loaded.supernet.parameters())).add_(1)
    save_checkpoint(run.folder.checkpoint, loaded.supernet, progress=loaded.progress, optimizer={})
    with raises("checkpoint.weights-changed", "small-1", loaded.weights_digest):
        load_trained_run(run)
