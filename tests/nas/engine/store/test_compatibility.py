"""`engine.store.compatibility`: what a run was made under does not change unseen, and runs of earlier versions continue."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.engine.progress import ProgressObserver
from nas.engine.store.compatibility import check_compatibility
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.jobs.build.built_job import build_job
from nas.jobs.build.compatibility_facts import compatibility_facts
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.runs.driver import resume, train
from nas.runs.run import Run
from supernets.training.checkpoint import save_checkpoint
from tests.errors import raises
from tests.nas.commands import SMALL_JOB

LATER = (
    "distill", "teacher", "random_subnets", "micro_batches", "candidates", "pick", "divergence", "clip_norm", "top_k",
    "accumulate", "activation_checkpointing", "precision", "balance_loss", "router_z_loss",
    "entropy_loss", "parameters", "largest_epochs",
)  # fmt: skip
"""What trainings of earlier versions did not record of themselves; nor did they record their family."""


def text_of(training: str, *, nested: bool = False) -> str:
    text = re.sub(r"training: .*", f"training: {{epochs: 2, batch_size: 256{training}}}", SMALL_JOB)
    return text.replace("family: mobile-cnn", f"family: mobile-cnn\n  nested: {str(nested).lower()}")


def conditions(folder: Path, text: str) -> dict[str, Any]:
    return compatibility_facts(
        build_job(ResolvedJob(parse_job(text, source="job.yaml"), RunsFolder(folder))), measured=False
    )


def as_before(found: dict[str, Any]) -> dict[str, Any]:
    """Conditions as a version that knew none of the later ones recorded them."""
    supernet = {key: value for key, value in found["supernet"].items() if key not in LATER}
    return {key: value for key, value in found.items() if key != "family"} | {"supernet": supernet}


CHANGES = [
    # (the training as it was, as it is, the condition in the error)
    ("", ", strategy: attentive", "supernet, strategy: was sandwich, is attentive"),
    ("", ", random_subnets: 1", "supernet, random_subnets: was 2, is 1"),
    ("", ", distill: none", "supernet, distill: was largest, is none"),
    ("", ", teacher: a-run", "supernet, distill: was largest, is teacher"),
    (", teacher: a-run", ", teacher: b-run", "supernet, teacher: was a-run, is b-run"),
    ("", ", divergence: alpha", "supernet, divergence: was kl, is alpha"),
    (", strategy: attentive", ", strategy: attentive, candidates: 4", "supernet, candidates: was 3, is 4"),
    (", strategy: attentive", ", strategy: attentive, pick: worst", "supernet, pick: was best, is worst"),
    ("", ", learning_rate: 0.1", "supernet, learning_rate: was 0.003, is 0.1"),
    ("", ", weight_decay: 0", "supernet, weight_decay: was 0.01, is 0.0"),
    ("", ", accumulate: 2", "supernet, accumulate: was 1, is 2"),
    ("", ", top_k: 3", "supernet, top_k: was None, is 3"),
    ("", ", clip_norm: 1", "supernet, clip_norm: was None, is 1"),
    ("", ", augment: {shift: 1}", "supernet, shift: was 0, is 1"),
    ("", ", augment: {flip: true}", "supernet, flip: was False, is True"),
]


@pytest.mark.parametrize(("was", "now", "said"), CHANGES, ids=[said for *_, said in CHANGES])
def test_a_key_that_changes_the_weights_is_refused_by_name(tmp_path: Path, was: str, now: str, said: str) -> None:
    theirs = conditions(tmp_path, text_of(was))
    check_compatibility("run a", theirs, conditions(tmp_path, text_of(was)))
    with raises("run.incompatible", "run a", said):
        check_compatibility("run a", theirs, conditions(tmp_path, text_of(now)))


def test_so_are_micro_batches(tmp_path: Path) -> None:
    was, now = (text_of(f", strategy: sorted, micro_batches: {n}", nested=True) for n in (2, 4))
    with raises("run.incompatible", "supernet, micro_batches: was 2, is 4"):
        check_compatibility("run a", conditions(tmp_path, was), conditions(tmp_path, now))


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("head: 32", "head: 16", "family, head: was 32, is 16"),
        ("head: 32", "head: 32\n    activation: hardswish", "family, activation: was None, is hardswish"),
        ("{stride: 2, depth", "{stride: 1, depth", "family, stages;"),
    ],
)
def test_so_are_sizes_that_are_no_choice_of_the_space(tmp_path: Path, was: str, now: str, said: str) -> None:
    """Networks then have the same genes, and other weights."""
    theirs, ours = (conditions(tmp_path, text) for text in (SMALL_JOB, SMALL_JOB.replace(was, now, 1)))
    assert theirs["space"] == ours["space"]
    with raises("run.incompatible", said):
        check_compatibility("run a", theirs, ours)


@pytest.mark.parametrize(
    "training", ["", ", random_subnets: 1", ", teacher: a-run", ", strategy: attentive, pick: worst"]
)
def test_what_an_earlier_version_did_not_record_is_not_held_against_its_run(tmp_path: Path, training: str) -> None:
    now = conditions(tmp_path, text_of(training))
    earlier = as_before(now)
    assert earlier["supernet"].keys() < now["supernet"].keys()
    check_compatibility("run a", earlier, now)
    # What it did record still is, and what it was too early to have.
    with raises("run.incompatible", "supernet, learning_rate: was 0.003, is 0.1"):
        check_compatibility("run a", earlier, conditions(tmp_path, text_of(training + ", learning_rate: 0.1")))
    with raises("run.incompatible", "supernet, divergence: was kl, is alpha"):
        check_compatibility("run a", earlier, conditions(tmp_path, text_of(training + ", divergence: alpha")))


class Killed(BaseException):
    pass


class KillAfterAnEpoch(ProgressObserver):
    """A display at whose first epoch the driver dies."""

    def epoch(self, *args: object) -> None:
        raise Killed


def killed_training(runs: RunsFolder, text: str) -> Run:
    observer = KillAfterAnEpoch()
    with pytest.raises(Killed):
        train(parse_job(text, source="job.yaml"), RunOptions(runs, observer=observer))
    return Run.open(runs, "small-1")


def weights_of(run: Run) -> str:
    with run.store() as store:
        return str(store.state().weights)


def test_a_training_is_not_resumed_under_another_job_but_under_its_own(tmp_path: Path) -> None:
    text = text_of(", random_subnets: 1")
    run = killed_training(RunsFolder(tmp_path), text)
    stored = run.folder.job_file.read_text()
    run.folder.job_file.write_text(stored.replace("distill: largest", "distill: none"))
    with raises("run.incompatible", "run small-1", "supernet, distill: was largest"):
        resume("small-1", RunOptions(run.runs))
    run.folder.job_file.write_text(stored)
    whole = train(parse_job(text, source="job.yaml"), RunOptions(RunsFolder(tmp_path / "whole")))
    assert weights_of(resume("small-1", RunOptions(run.runs))) == weights_of(whole)


def test_a_training_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    run = killed_training(RunsFolder(tmp_path), text_of(", random_subnets: 1"))
    store = open_store(run.folder, driver=True)
    facts = store.facts()
    assert facts is not None
    store.describe(replace(facts, compatibility=as_before(facts.compatibility)))
    store.close()
    assert resume("small-1", RunOptions(run.runs)).kind == "training"
    with run.store() as read:
        assert read.state().epoch == 2


def test_a_teacher_that_is_another_meanwhile_is_refused(tmp_path: Path) -> None:
    taught = text_of(f", teacher: {tmp_path / 'trained'}")
    first = build_job(ResolvedJob(parse_job(text_of(""), source="job.yaml"), RunsFolder(tmp_path)))

    def save(seed: int) -> str:
        built_job = build_job(ResolvedJob(first.job.config.model_copy(update={"seed": seed}), RunsFolder(tmp_path)))
        progress = {"epoch": 1, "epochs": 1, "data": {"name": "digits", "digest": first.data.dataset.train.digest}}
        return save_checkpoint(tmp_path / "trained", built_job.untrained(), progress=progress, optimizer={})

    was = save(1)
    run = killed_training(RunsFolder(tmp_path / "runs"), taught)
    now = save(2)
    with raises("checkpoint.teacher-changed", "the teacher", was, now):
        resume("small-1", RunOptions(run.runs))
    assert save(1) == was
    assert weights_of(resume("small-1", RunOptions(run.runs)))
