"""Runs ``nas`` in forks of a process that has loaded only what is light, so that a command need not start Python.

``python -m tests.light_process`` is that process: it reads a command a line, and answers with its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HEAVY = ("torch", "ray", "pymoo", "sklearn", "scipy", "lightgbm", "onnxruntime", "onnx", "matplotlib", "plotly")
LIGHT = (
    "nas.cli.commands",
    "nas.jobs.resolve.references",
    "nas.jobs.resolve.resolved_job",
    "nas.jobs.schema",
    "nas.engine.store.opening",
    "nas.engine.store.sql",
)
PLAIN = {"TERM": "dumb", "COLUMNS": "120"}
"""An environment in which help comes without colours, wherever the tests run."""
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class LightProcess:
    """The process, and the folder for what its forks print."""

    process: subprocess.Popen[str]
    folder: Path

    def run(self, arguments: Sequence[str]) -> tuple[int, str, set[str]]:
        """The exit code of ``nas ARGUMENTS``, what it prints, and the watched modules that it loads."""
        paths = [self.folder / name for name in ("out", "err", "loaded")]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([list(arguments), *map(str, paths)]), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        out, err, loaded = (path.read_text() for path in paths)
        return code, out + err, set(loaded.split())


@contextmanager
def light_process(
    folder: Path, *, imported: Sequence[str] = LIGHT, watched: Sequence[str] = HEAVY
) -> Iterator[LightProcess]:
    """A process that ends with the context.

    Args:
        folder: for files with what its forks print.
        imported: modules that it loads at its start; it ends at once if they load any that is watched.
    """
    command = [sys.executable, "-m", "tests.light_process", json.dumps([imported, watched])]
    environment = {**PLAIN, "PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:  # it ends with its input
        yield LightProcess(process, folder)


def _serve(imported: list[str], watched: list[str]) -> None:
    for name in imported:
        importlib.import_module(name)
    if already := [name for name in watched if name in sys.modules]:
        raise RuntimeError(f"{imported} load {already}")
    for line in sys.stdin:
        arguments, *paths = json.loads(line)
        if not (pid := os.fork()):
            return _run(arguments, watched, *paths)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return None


def _run(arguments: list[str], watched: list[str], out: str, err: str, loaded: str) -> None:
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    from nas.cli import main

    sys.argv = ["nas", *arguments]
    try:
        main()
    finally:
        Path(loaded).write_text(" ".join(name for name in watched if name in sys.modules))


if __name__ == "__main__":
    _serve(*json.loads(sys.argv[1]))
