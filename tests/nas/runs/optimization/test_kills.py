"""Searches that are killed: no evaluation that was counted is lost, and the result is that of an uninterrupted one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nas.engine.store.sql import SqlStore
from nas.search.problem.objectives import Measurement

EXAMPLE = Path(__file__).parents[4] / "examples" / "own_algorithm.py"
_COUNTING = """
import runpy, sys
from functools import partial
import nas

class Counting(nas.ProgressObserver):
    def progress(self, progress):
        print(progress.done, flush=True)

nas.optimize = partial(nas.optimize, progress=Counting())
runpy.run_path(sys.argv[1], run_name="__main__")
print("LOADED", *(name for name in ("torch", "ray") if name in sys.modules))
"""
"""Runs the example, printing each count of evaluations."""


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _COUNTING, str(EXAMPLE)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path) -> str:
    output, errors = (done := start(folder)).communicate()
    assert done.returncode == 0, errors
    assert output.endswith("LOADED\n")
    return output


def measured(folder: Path) -> list[Measurement]:
    store = SqlStore.open(folder / "search.db", create=False, driver=False)
    try:
        return store.measurements()
    finally:
        store.close()


@pytest.mark.slow
def test_an_own_algorithm_is_resumed_after_kills(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    before: list[Measurement] = []
    for kill_at in (7, 40):
        process = start(killed)
        assert process.stdout is not None
        counted = 0
        for line in process.stdout:
            counted = int(line)
            if counted >= kill_at:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        after = measured(killed)
        assert len({m.request.architecture for m in after}) >= counted >= kill_at
        assert after[: len(before)] == before  # nothing was measured twice
        before = after
    front = [line for line in finish(killed).splitlines() if line.startswith("{")]
    assert front == [line for line in finish(whole).splitlines() if line.startswith("{")]
    assert front
    values = [[(m.request, m.attempt, m.value) for m in measured(folder)] for folder in (killed, whole)]
    assert values[0] == values[1]
    assert len(values[0]) == 2 * 60


def test_the_example_is_twenty_lines_long() -> None:
    """Of the algorithm, the space, the function and the search; without imports, data, documentation and printing."""
    lines = [line.strip() for line in EXAMPLE.read_text().split("load_digits(return_X_y=True)")[1].splitlines()]
    code = [line for line in lines if line and not line.startswith(('"""', "if __name__", "for point", "print("))]
    assert len(code) <= 20
