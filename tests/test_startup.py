"""The command line answers before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nas.store.folder import RunsFolder
from nas.store.opening import open_store
from tests.nas.commands import SMALL_JOB

PLAIN = {"TERM": "dumb", "COLUMNS": "120"}
"""An environment in which help comes without colours, wherever the tests run."""
HEAVY = ("torch", "ray", "pymoo", "sklearn", "scipy", "lightgbm", "onnxruntime", "onnx", "matplotlib", "plotly")


def loaded(arguments: list[str], *, code: int = 0) -> tuple[set[str], str]:
    """Which heavy modules an invocation of ``nas`` loads that ends with an exit code, and what it prints."""
    program = f"""
import sys
from nas.cli import main
sys.argv = ["nas", *{arguments!r}]
try:
    main()
finally:
    print("LOADED", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=PLAIN)
    assert done.returncode == code, done.stderr
    marks = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    assert len(marks) == 1, done.stderr
    return set(marks[0].split()[1:]), done.stdout + done.stderr


def test_the_check_sees_what_is_loaded() -> None:
    code = f"import sys, supernets.base; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'torch'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--help"], "search"), (["search", "--help"], "--json"), (["init"], "digits-cnn")],
    ids=["help", "search-help", "init"],
)
def test_help_and_lists_load_nothing_heavy(arguments: list[str], words: str) -> None:
    heavy, output = loaded(arguments)
    assert words in output
    assert not heavy


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed: 3", "seeds: 3", "did you mean 'seed'"),
        ("[accuracy, latency_ms]", "[accuracy, latency]", "objectives[1]"),
        ("[cpu-1-thread]", "[cpu-1-threads]", "cpu-1-threads"),
        ("[cpu-1-thread]", "[mine.yaml]", "mine.yaml"),
        ("name: digits,", "name: image-folder, path: photos,", "photos does not exist"),
        (
            SMALL_JOB,
            "name: a\ndata: {name: text-classification, path: .}\nsupernet: {family: encoder, pretrained: bert}",
            "bert",
        ),
        ("epochs: 4,", "epochs: 4, teacher: gone,", "gone"),
        ("seed: 3", "seed: 3\nwarm_start: [gone]", "gone"),
        ("seed: 3", "seed: 3\nlookup_tables: [gone.json]", "gone.json"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "search"])
def test_a_wrong_name_or_path_in_a_job_is_found_before_anything_heavy_is_loaded(
    tmp_path: Path, command: str, old: str, new: str, words: str
) -> None:
    (tmp_path / "job.yaml").write_text(SMALL_JOB.replace(old, new, 1))
    heavy, output = loaded([command, str(tmp_path / "job.yaml"), "--runs", str(tmp_path / "runs")], code=1)
    assert words in output
    assert not heavy


@pytest.mark.parametrize(
    "arguments",
    [["plan", "gone"], ["show", "gone"], ["plot", "gone"], ["export", "gone", "-o", "gone.onnx"], ["resume", "gone"],
     ["finetune", "gone"], ["export-study", "gone"], ["export-transformers", "gone", "-o", "gone"],
     ["calibrate", "cpu-1-thread", "--job", "gone"], ["profile", "--sweep", "gone"]],
    ids=" ".join,
)  # fmt: skip
def test_so_is_a_wrong_name_on_the_command_line(arguments: list[str]) -> None:
    heavy, output = loaded(arguments, code=1)
    assert "error: " in output
    assert "gone" in output
    assert not heavy


def test_so_is_what_no_run_can_be_extended_by(tmp_path: Path) -> None:
    open_store(RunsFolder(tmp_path).create("tiny", "job"), create=True, driver=True).close()
    heavy, output = loaded(["resume", "tiny-1", "--evaluations", "abc", "--runs", str(tmp_path)], code=1)
    assert "--evaluations abc" in output
    assert not heavy


def test_a_run_is_opened_for_reading_without_what_drives_it() -> None:
    code = f"import sys, nas; nas.open_run; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_commands_against_a_server_load_neither_the_engine_nor_the_server() -> None:
    names = (*HEAVY, "fastapi", "uvicorn", "sqlalchemy")
    code = (
        f"import sys, nas.client, nas.cli.remote, nas.engine.console; print([n for n in {names!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nas.cli", "--help"], capture_output=True, text=True, check=False, env=PLAIN
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert done.stderr == ""
