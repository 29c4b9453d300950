"""A named pipe in place of a user's file: refused by its name, where opening it would wait forever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.nas.commands import SMALL_JOB, Shell, assert_error

ENCODER = "name: a\ndata: {{name: text-classification, path: {data}{more}}}\nsupernet: {{family: encoder, {network}}}\n"
ROWS = "text,label\n" + "".join(f"sentence {i},{i % 2}\n" for i in range(40))


@pytest.fixture
def pipe(shell: Shell) -> Path:
    path = shell.folder / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    "job",
    [
        SMALL_JOB.replace("{name: digits,", "{name: image-folder, path: pipe,"),
        SMALL_JOB.replace("[cpu-1-thread]", "[pipe.yaml]"),
        SMALL_JOB.replace("seed: 3", "seed: 3\nlookup_tables: [pipe]"),
        SMALL_JOB.replace("epochs: 4,", "epochs: 4, teacher: ./pipes,"),
        ENCODER.format(data="pipe", more="", network="preset: tiny"),
        ENCODER.format(data="rows.csv", more=", tokenizer: pipe", network="preset: tiny"),
        ENCODER.format(data="rows.csv", more="", network="pretrained: pipes"),
    ],
    ids=["images", "profile", "lookup-table", "checkpoint", "sentences", "tokenizer", "pretrained"],
)
def test_a_job_that_names_a_pipe(shell: Shell, pipe: Path, job: str) -> None:
    (shell.folder / "pipe.yaml").symlink_to(pipe)
    (shell.folder / "rows.csv").write_text(ROWS)
    (shell.folder / "pipes").mkdir()
    for name in ("config.json", "model.safetensors", "checkpoint.json"):
        (shell.folder / "pipes" / name).symlink_to(pipe)
    assert_error(shell.nas("plan", shell.job(job), "--inline"), "pipe")


def test_a_command_that_gets_a_pipe(shell: Shell, pipe: Path) -> None:
    assert_error(shell.nas("plan", pipe), "pipe")
    assert_error(shell.nas("profile", pipe), "pipe")
    server = ("--server", "http://127.0.0.1:1")
    assert_error(shell.nas("submit", pipe, *server), "pipe")
    assert_error(shell.nas("profiles", "add", pipe, *server), "pipe")
    assert_error(shell.nas("data", "add", "flowers", pipe, *server), "pipe")
    assert_error(shell.nas("status", "--token-file", pipe, *server), "pipe")
    (shell.folder / "table.yaml").write_text("table: pipe\ngenes: [a]\n")
    assert_error(shell.nas("bench", "predictor", "table.yaml", "--target", "b"), "pipe", code="table.unreadable")
