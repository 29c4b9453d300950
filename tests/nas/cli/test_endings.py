"""How a command ends that is interrupted while it imports, or whose output cannot be written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from tests.nas import short_rounds
from tests.nas.service.made_runs import searched

_INTERRUPTED_IMPORT = """
import signal, sys
from importlib.abc import MetaPathFinder

class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                {then}

sys.meta_path.insert(0, Interrupting())
sys.argv = ["nas", *{arguments!r}]
from nas.cli import main
main()
"""


_SHOW = [sys.executable, "-m", "nas.cli", "show", "made-1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    searched(RunsFolder(folder / "runs"), n=20)
    return folder


@pytest.mark.parametrize(
    ("name", "then"),
    [
        *((name, "raise") for name in ("nas.cli.app", "typer", "nas.results.analysis.report")),
        ("numpy", "raise ImportError('the extension failed') from None"),
        ("nas.cli.app", "pass"),
    ],
)
def test_an_interrupted_import_ends_the_command_without_a_traceback(finished: Path, name: str, then: str) -> None:
    program = _INTERRUPTED_IMPORT.format(name=name, then=then, arguments=["show", "made-1"])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=finished, env=short_rounds.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.2])
def test_ctrl_c_at_any_moment_prints_no_traceback(finished: Path, seconds: float) -> None:
    process = subprocess.Popen(
        _SHOW, cwd=finished, env=short_rounds.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode in (0, 130, -signal.SIGINT)  # it had ended, or was ending
    assert err in ("", "interrupted\n")


def test_output_to_a_full_disk_is_an_error_in_a_line(finished: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            _SHOW,
            cwd=finished,
            env=short_rounds.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.splitlines()) == (
        1, ["error: the output cannot be written: No space left on device; free space there"],
    )  # fmt: skip


def test_a_reader_that_leaves_early_is_no_error_to_report(finished: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            _SHOW,
            cwd=finished,
            env=short_rounds.environment(),
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(("redirection", "encoding"), [(">&-", "utf-8"), ("", "ascii")])
def test_output_that_is_closed_or_cannot_have_all_characters_is_no_error(
    finished: Path, redirection: str, encoding: str
) -> None:
    environment = {**short_rounds.environment(), "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *_SHOW],
        cwd=finished, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert ("\\xb1" in done.stdout) is (encoding == "ascii")


def test_what_libraries_print_from_c_stays_out_of_the_data(tmp_path: Path) -> None:
    layers = "nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)"
    build = f"def build():\n    os.write(1, b'a line of C\\n')\n    return nn.Sequential({layers})\n"
    (tmp_path / "printing.py").write_text(f"import os\n\nfrom torch import nn\n\n\n{build}")
    done = subprocess.run(
        [sys.executable, "-m", "nas.cli", "inspect", "printing:build", "--input", "4", "--no-proof", "--json"],
        cwd=tmp_path, env=short_rounds.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "parameters" in str(json.loads(done.stdout))
    assert "a line of C\n" in done.stderr
