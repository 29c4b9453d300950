"""What a job takes of the trained supernet that it names: the tokenizer that its sentences were read with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, load_job
from nas.runs.driver import run as search
from nas.runs.driver import train
from nas.runs.finetuning.job import finetuning_job
from nas.runs.run import Run
from tests.errors import raises
from tests.nas.moods import JOB, write_moods


def job(folder: Path, **changes: Mapping[str, Any] | str) -> SearchJob:
    """The job of the folder's sentences, with sections in place of its own."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(JOB | changes))
    return load_job(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``moods-1``, a training of a supernet that was made of a pretrained network."""
    folder = write_moods(tmp_path_factory.mktemp("trained"))
    train(job(folder), RunOptions(RunsFolder(folder / "runs")))
    return folder


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to spoil; what its run was made of is in the first one."""
    return Path(shutil.copytree(trained, tmp_path / "own"))


def tokenizer(folder: Path) -> str:
    return (folder / "bert" / "tokenizer.json").read_text()


def test_a_run_from_a_pretrained_network_has_its_tokenizer(trained: Path, own: Path) -> None:
    runs = RunsFolder(own / "runs")
    for named in ("moods-1", "./runs/moods-1", "./runs/moods-1/checkpoint"):
        built_job = build_job(ResolvedJob(job(own, supernet={"from": named}), runs))
        assert built_job.data.dataset.sentences.tokenizer == tokenizer(trained)
    searched = search(job(own, supernet={"from": "moods-1"}, name="next"), RunOptions(runs, inline=True))
    again = build_job(
        ResolvedJob(job(own, supernet={"from": searched.id}), runs)
    )  # through the run whose supernet it searched
    assert again.data.dataset.train.digest == built_job.data.dataset.train.digest
    further = finetuning_job(Run.open(runs, searched.id), index=0, epochs=1)
    assert build_job(ResolvedJob(further, runs)).data.dataset.train.digest == built_job.data.dataset.train.digest


def test_the_job_s_own_tokenizer_takes_precedence(trained: Path, own: Path) -> None:
    (own / "other.json").write_text(tokenizer(trained) + " ")
    data = {**JOB["data"], "tokenizer": "other.json"}
    built_job = build_job(ResolvedJob(job(own, supernet={"from": "moods-1"}, data=data), RunsFolder(own / "runs")))
    assert built_job.data.dataset.sentences.tokenizer == tokenizer(trained) + " "


def test_a_tokenizer_that_a_run_trained_is_trained_again(own: Path) -> None:
    runs = RunsFolder(own / "runs")
    space = {"head_size": 4, "depth": [1, 2], "width": [16], "heads": [2], "hidden": [8]}
    run = train(job(own, supernet={"family": "encoder", "space": space}), RunOptions(runs))
    built_job = build_job(ResolvedJob(job(own, supernet={"from": run.id}), runs))
    assert built_job.data.dataset.sentences.vocabulary < 120


def test_another_vocabulary_than_its_tokenizer_s_is_rejected(own: Path) -> None:
    wanted = job(own, supernet={"from": "moods-1"}, data={**JOB["data"], "vocabulary": 500})
    with raises("job.conflict", "job.yaml: data.vocabulary: moods-1"):
        build_job(ResolvedJob(wanted, RunsFolder(own / "runs"), source="job.yaml"))


def test_a_missing_pretrained_network_is_reported_where_the_run_has_no_copy(own: Path) -> None:
    runs = RunsFolder(own / "runs")
    shutil.rmtree(runs.get("moods-1").pretrained)  # as runs of earlier versions are
    file = runs.get("moods-1").job_file
    stored = yaml.safe_load(file.read_text())
    stored["supernet"]["pretrained"] = "package:no-such-package"
    file.write_text(yaml.safe_dump(stored))
    with raises("job.pretrained-unusable", "supernet.from: moods-1", "package:no-such-package", "data.tokenizer"):
        build_job(ResolvedJob(job(own, supernet={"from": "moods-1"}), runs))


def test_a_checkpoint_outside_of_its_run_needs_the_tokenizer_named(trained: Path, own: Path) -> None:
    shutil.copytree(own / "runs" / "moods-1" / "checkpoint", own / "bare")
    runs = RunsFolder(own / "runs")
    with raises("checkpoint.other-data", "supernet.from: ", "data.tokenizer"):
        build_job(ResolvedJob(job(own, supernet={"from": "./bare"}), runs))
    data = {**JOB["data"], "tokenizer": str(trained / "bert")}
    named = build_job(ResolvedJob(job(own, supernet={"from": "./bare"}, data=data), runs))
    assert named.data.dataset.sentences.tokenizer == tokenizer(trained)
