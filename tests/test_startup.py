"""The command line answers before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

PLAIN = {"TERM": "dumb", "COLUMNS": "120"}
"""An environment in which help comes without colours, wherever the tests run."""
HEAVY = ("torch", "ray", "pymoo", "sklearn", "scipy", "lightgbm", "onnxruntime", "onnx", "matplotlib", "plotly")


def loaded(arguments: list[str]) -> tuple[set[str], str]:
    """Which heavy modules an invocation of ``nas`` loads, and what it prints on stdout."""
    code = f"""
import sys
from nas.cli import main
sys.argv = ["nas", *{arguments!r}]
try:
    main()
except SystemExit as end:
    if end.code:
        raise
print("LOADED", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=PLAIN)
    assert done.returncode == 0, done.stderr
    marks = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    assert len(marks) == 1, done.stderr
    return set(marks[0].split()[1:]), done.stdout


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
