"""The commands with what is wrong in every way."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing

import numpy as np
import pytest
import yaml
from PIL import Image

from nas.engine.store.base import RunStatus
from nas.engine.store.sql import SqlStore
from tests.full_disk import files_of_at_most
from tests.nas.commands import SMALL_JOB, Shell, assert_error


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("seed: 3", "seeds: 3", ("job.yaml", "seeds", "seed")),
        ("family: mobile-cnn", "family: mobile-cn", ("supernet.family", "mobile-cnn")),
        ("[cpu-1-thread]", "[cpu-1-threads]", ("cpu-1-threads", "cpu-1-thread")),
        ("[accuracy, latency_ms]", "[accuracy, latency]", ("objectives", "latency_ms")),
        ("evaluations: 30", "evaluations: 0", ("search.evaluations", "0")),
        ("epochs: 4,", "epochs: 4, threads: 99,", ("training.threads", "99", "cores")),
        ("epochs: 4,", "epochs: 4, teacher: gone,", ("training.teacher", "unknown run 'gone'")),
        ("epochs: 4,", "epochs: 4, workers: 2,", ("training.workers", "inline")),
        (
            "epochs: 4, batch_size: 64, random_subnets: 1",
            "epochs: 2, strategy: progressive",
            ("training.epochs", "4 phases"),
        ),
        ("depth: [1, 2], width: [4, 16]", "depth: [2, 1], width: [4, 16]", ("depth",)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["plan", "search"])
def test_a_job_that_will_not_do(shell: Shell, command: str, old: str, new: str, parts: tuple[str, ...]) -> None:
    assert old in SMALL_JOB
    assert_error(shell.nas(command, shell.job(SMALL_JOB.replace(old, new)), "--inline"), *parts)
    assert shell.runs() == set()


@pytest.mark.parametrize(
    "command",
    [["show", "LONG"], ["show", "LONG", "--runs", "LONG"], ["resume", "LONG"], ["search", "LONG.yaml"],
     ["runs", "--runs", "LONG"], ["init", "LONG"], ["profile", "LONG", "--profile", "LONG"]],
)  # fmt: skip
def test_a_name_of_5000_characters_is_not_echoed(shell: Shell, command: list[str]) -> None:
    (shell.folder / "runs").mkdir()
    answer = shell.nas(*(part.replace("LONG", "x" * 5000) for part in command))
    assert answer.code == 1
    assert len(answer.err) < 600, answer.err


def test_the_name_of_a_file_commands_no_terminal(shell: Shell) -> None:
    answer = shell.nas("plan", "\x1b[31mjob.yaml")
    assert answer.code == 1
    assert "\x1b" not in answer.err
    assert "\\x1b[31mjob.yaml" in answer.err


def test_a_lookup_table_that_cannot_be_written_is_reported_before_blocks_are_measured(shell: Shell) -> None:
    job = shell.job(SMALL_JOB)
    answer = shell.nas("calibrate", "cpu-1-thread", "--job", job, "-o", f"{job}/table.json")
    assert_error(answer, "job.yaml", "is a file", code="file.not-a-folder")
    assert "measuring blocks" not in answer.err


@pytest.mark.parametrize("command", ["plan", "search"])
def test_a_warm_start_from_a_run_of_another_supernet(after: Shell, command: str) -> None:
    job = SMALL_JOB.replace("seed: 3", "seed: 4\nwarm_start: [small-1]")
    assert_error(after.nas(command, after.job(job), "--inline"), "small-1", code="run.incompatible")


def test_a_space_of_one_architecture(shell: Shell) -> None:
    text = (
        SMALL_JOB.replace("[1, 2]", "[1]").replace("[4, 16]", "[4]").replace("[8, 32]", "[8]").replace("[1, 4]", "[1]")
    )
    assert_error(shell.nas("search", shell.job(text), "--inline"), "one network")
    assert shell.runs() == set()


@pytest.mark.parametrize(
    ("images", "parts"),
    [
        ({}, ("expected",)),
        ({"cat": 1}, ("cat",)),
        ({"cat": 9}, ("1 class", "cat")),
        ({"cat": 9, "dog": 1}, ("dog",)),
    ],
)
def test_an_image_folder_that_will_not_do(shell: Shell, images: dict[str, int], parts: tuple[str, ...]) -> None:
    root = shell.folder / "images"
    root.mkdir()
    rng = np.random.default_rng(0)
    for name, n in images.items():
        (root / name).mkdir()
        for i in range(n):
            Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(root / name / f"{i}.png")
    text = SMALL_JOB.replace("{name: digits, validation: 0.25, test: 0.25}", "{name: image-folder, path: images}")
    assert_error(shell.nas("search", shell.job(text), "--inline"), "images", *parts)
    assert shell.runs() == set()


def test_unknown_names(after: Shell) -> None:
    assert_error(after.nas("init", "digit-cnn"), "digits-cnn")
    assert_error(after.nas("show", "smal-1"), "small-1")
    assert_error(after.nas("export", "../small-1", "-o", "x.onnx"), "unknown run")
    assert_error(after.nas("plan", "nothing.yaml"), "nothing.yaml")
    assert_error(after.nas("export", "small-1", "--select", "speed<=1", "-o", "x.onnx"), "speed")


def test_a_constraint_that_nothing_meets_names_the_nearest(after: Shell) -> None:
    answer = after.nas("export", "small-1", "--select", "latency_ms<=0.000001", "-o", "x.onnx")
    assert_error(answer, "nearest", "latency_ms@cpu-1-thread")
    assert not (after.folder / "x.onnx").exists()


def test_export_into_nowhere(after: Shell) -> None:
    (after.folder / "taken").write_text("a file")
    assert_error(after.nas("export", "small-1", "-o", "taken/x.onnx"), "taken is a file", code="file.not-a-folder")
    assert_error(after.nas("export", "small-1", "-o", "taken"), "taken: expected a file that ends in .onnx")
    assert_error(after.nas("export", "small-1", "-o", "x.pt"), ".onnx")
    assert_error(after.nas("export-transformers", "small-1", "-o", "taken"), "a file", code="file.not-a-folder")
    assert_error(after.nas("export", "small-1", "-o", "/proc/x.onnx"), "/proc takes no files", code="file.not-writable")
    answer = after.nas("plot", "small-1", "-o", "taken")
    assert_error(answer, "taken is a file; expected a folder to write to", "name another", code="file.not-a-folder")


def test_a_limit_on_what_the_run_has_not_measured_lists_what_it_has(after: Shell) -> None:
    for command in (["export", "-o", "x.onnx"], ["show"], ["plot"]):
        answer = after.nas(command[0], "small-1", *command[1:], "--select", "latency<=1")
        known = "did you mean 'latency_ms'? Known: accuracy, latency_ms."
        assert_error(answer, "unknown objective 'latency'", known, code="objective.unknown")
    answer = after.nas("show", "small-1", "--select", "1e-3<latency_ms")
    assert_error(answer, "the metric comes first; write latency_ms>1e-3", code="selection.malformed")


def test_an_export_makes_its_folder(after: Shell) -> None:
    made = after.nas("export", "small-1", "-o", "new/exports", "--json")
    assert made.code == 0, made.err
    (model,) = (after.folder / "new" / "exports").glob("small-1-*.onnx")
    assert made.data["path"] == f"new/exports/{model.name}"
    assert after.nas("export", "small-1", "-o", "other/mine.onnx").code == 0
    assert (after.folder / "other" / "mine.onnx").exists()
    assert_error(after.nas("export", "small-1", "-o", "x.onnx", "--index", "1", "--knee"), code="selection.ambiguous")
    assert_error(after.nas("export", "small-1", "-o", "x.onnx", "--profile", "cpu"), "unknown profile 'cpu'")
    assert (
        "--profile chooses"
        in after.nas("export", "small-1", "-o", "x.onnx", "--profile", "cpu-1-thread", "--index", "0").err
    )


def test_a_truncated_checkpoint(after: Shell) -> None:
    (weights,) = (after.folder / "runs" / "small-1" / "checkpoint").glob("weights-*")
    weights.write_bytes(weights.read_bytes()[:100])
    assert_error(after.nas("export", "small-1", "-o", "x.onnx"), "truncated")
    assert not list(after.folder.glob("x.*"))


def test_a_checkpoint_of_another_space(after: Shell) -> None:
    text = SMALL_JOB.replace("head: 32", "head: 16").replace("  family:", "  from: small-1\n  family:")
    assert_error(after.nas("search", after.job(text), "--inline"), "another space")
    assert after.runs() == {"small-1"}


def test_weights_that_are_not_those_of_the_figures(after: Shell) -> None:
    """A checkpoint put in place of the one that was searched: neither exported nor resumed with the old figures."""
    text = SMALL_JOB.replace("seed: 3", "seed: 4").replace("name: small", "name: other")
    assert after.nas("train", after.job(text, "other.yaml")).code == 0
    own = after.folder / "runs" / "small-1" / "checkpoint"
    shutil.rmtree(own)
    shutil.copytree(after.folder / "runs" / "other-1" / "checkpoint", own)
    assert_error(after.nas("export", "small-1", "-o", "x.onnx"), "weights")
    assert not list(after.folder.glob("x.*"))


def test_a_warm_start_that_will_not_do(after: Shell) -> None:
    job = yaml.safe_load(SMALL_JOB) | {"name": "warm"}

    def refused(run: str, changes: dict[str, object], *parts: str) -> None:
        path = after.job(yaml.safe_dump(job | changes | {"warm_start": [run]}), "warm.yaml")
        assert_error(after.nas("search", path, "--inline"), *parts)
        assert after.runs() == {"small-1"}

    refused("smal-1", {}, "warm_start[0]: ", "unknown run", "small-1")
    refused("warm-1", {}, "unknown run", "warm-1")  # itself
    refused(
        "small-1",
        {"calibration_images": 20},
        "warm_start: run small-1",
        "calibration_images",
        "name a run that was made",
    )
    refused("small-1", {"seed": 4}, "warm_start: run small-1", "supernet, seed: was 3, is 4")
    refused("small-1", {"data": {"name": "digits", "validation": 0.2}}, "warm_start: run small-1", "data")
    space = {"preset": "digits"}
    refused("small-1", {"supernet": space}, "warm_start: run small-1", "space")
    refused("../small-1", {}, "warm_start[0]", "a list of runs")
    text = SMALL_JOB.replace("epochs: 4", "epochs: 1").replace("name: small", "name: other")
    assert after.nas("train", after.job(text, "other.yaml")).code == 0
    path = after.job(yaml.safe_dump(job | {"warm_start": ["other-1"]}), "warm.yaml")
    assert_error(after.nas("search", path, "--inline"), "warm_start[0] other-1: it is no search")
    path = after.job(yaml.safe_dump(job | {"supernet": {"from": "other-1"}, "warm_start": ["small-1"]}), "warm.yaml")
    assert_error(after.nas("search", path, "--inline"), "warm_start small-1: it searched another supernet", "weights")


def test_an_unknown_run_is_named_after_one_option(after: Shell) -> None:
    answer = after.nas("search", "job.yaml", "--inline", "--replay", "gone")
    assert answer.err.startswith("error: --replay: unknown run 'gone' in runs. Known: small-1.")


def test_measurements_of_other_conditions_are_not_replayed(after: Shell) -> None:
    text = SMALL_JOB.replace("calibration_images: 300", "calibration_images: 20")
    answer = after.nas("search", after.job(text, "other.yaml"), "--inline", "--replay", "small-1")
    assert_error(answer, "small-1", "calibration_images", "300", "20")
    assert after.runs() == {"small-1"}


def test_a_profile_that_changed_is_not_mixed_with_what_it_was(after: Shell) -> None:
    (after.folder / "mine.yaml").write_text("name: mine\nbatch_size: 2\n")
    job = yaml.safe_load(SMALL_JOB)
    job |= {"supernet": {"from": "small-1"}, "hardware": ["./mine.yaml"], "name": "own"}
    job["search"] = {"algorithm": "random", "evaluations": 3, "batch": 3}
    made = after.nas("search", after.job(yaml.safe_dump(job), "own.yaml"), "--inline", "--json")
    assert made.code == 0, made.err
    database = after.folder / "runs" / "own-1" / "run.db"
    with closing(SqlStore.open(database, create=False, driver=True)) as store:
        store.set_status(RunStatus.CANCELLED, reason="as if interrupted")
    (after.folder / "mine.yaml").write_text("name: mine\nbatch_size: 64\n")
    assert_error(after.nas("resume", "own-1"), "own-1", "profiles", "mine")


def test_an_export_leaves_other_files_alone(after: Shell) -> None:
    (after.folder / "keep.json").write_text('{"mine": true}')
    assert_error(after.nas("export", "small-1", "-o", "keep.onnx"), "keep.json")
    assert json.loads((after.folder / "keep.json").read_text()) == {"mine": True}
    (after.folder / "own.safetensors").write_text("mine")
    assert_error(after.nas("export", "small-1", "-o", "own.onnx"), "own.safetensors exists")
    assert (after.folder / "own.safetensors").read_text() == "mine"
    assert after.nas("export", "small-1", "-o", "twice.onnx").code == 0
    assert after.nas("export", "small-1", "--profile", "cpu-1-thread", "-o", "twice.onnx").code == 0


def test_a_damaged_checkpoint_index_of_a_training(shell: Shell) -> None:
    assert shell.nas("train", shell.job(SMALL_JOB.replace("epochs: 4", "epochs: 1"))).code == 0
    (shell.folder / "runs" / "small-1" / "checkpoint" / "checkpoint.json").write_text("{")
    assert_error(shell.nas("show", "small-1"), "checkpoint.json", "train again")
    assert_error(shell.nas("plot", "small-1"), "supernet: {from: small-1}", code="run.not-a-search")


def test_a_corrupt_store(after: Shell) -> None:
    database = after.folder / "runs" / "small-1" / "run.db"
    database.write_bytes(b"no database" * 1000)
    assert_error(after.nas("show", "small-1"), "run.db")
    (row,) = after.nas("runs", "--json").data
    assert row["status"] == "damaged"


def test_a_run_that_another_driver_holds(after: Shell) -> None:
    held = SqlStore.open(after.folder / "runs" / "small-1" / "run.db", create=False, driver=True)
    try:
        assert_error(after.nas("resume", "small-1"), "another live driver", str(os.getpid()))
        (row,) = after.nas("runs", "--json").data
        assert row["live"] is True
    finally:
        held.close()


def test_a_recipe_that_the_disk_has_no_room_for(shell: Shell) -> None:
    with files_of_at_most(100):
        assert_error(shell.nas("init", "digits-cnn"), "digits-cnn.yaml", "File too large", code="file.not-writable")
    assert not (shell.folder / "digits-cnn.yaml").exists()


def test_a_model_that_is_none(shell: Shell) -> None:
    (shell.folder / "model.onnx").write_bytes(b"not a model")
    assert_error(shell.nas("profile", "model.onnx"), "model.onnx")
    assert_error(shell.nas("profile", "absent.onnx"), "absent.onnx")


def test_more_threads_than_cores(shell: Shell) -> None:
    (shell.folder / "big.yaml").write_text("name: big\nthreads: 512\n")
    text = SMALL_JOB.replace("[cpu-1-thread]", "[./big.yaml]")
    assert_error(shell.nas("search", shell.job(text), "--inline"), "512")


def test_a_runs_folder_that_cannot_be_written(shell: Shell) -> None:
    (shell.folder / "taken").write_text("a file")
    assert_error(shell.nas("search", shell.job(), "--inline", "--runs", "taken"), "taken", "--runs")
