"""Runs the command line inside the tests' process, and makes jobs small enough for it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from nas.cli import main
from tests.nas.short_rounds import take_short_rounds

SMALL_JOB = """
name: small
seed: 3
data: {name: digits, validation: 0.25, test: 0.25}
supernet:
  family: mobile-cnn
  space:
    stem: 8
    stem_stride: 1
    stages:
      - {stride: 2, depth: [1, 2], width: [4, 16], kernel: [3], expand: [1, 4]}
      - {stride: 2, depth: [1, 2], width: [8, 32], kernel: [3], expand: [1, 4]}
    head: 32
training: {epochs: 4, batch_size: 64, random_subnets: 1}
hardware: [cpu-1-thread]
objectives: [accuracy, latency_ms]
search: {algorithm: guided, evaluations: 30, batch: 7}
calibration_images: 300
"""


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str
    error: str | None = None
    """The stable code of the error that ended it."""

    @property
    def data(self) -> Any:
        """Its JSON."""
        return json.loads(self.out)


@contextmanager
def _undrawn() -> Iterator[None]:
    from nas.results.plots import plot_files

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plot_files, "files_of", lambda name, chart: {f"{name}.png": b"", f"{name}.svg": b"<svg/>"})
        yield


@dataclass(frozen=True)
class Shell:
    """Calls ``nas`` with arguments, in a folder of its own.

    Searches make figures, and do not draw them, which takes as long as a small search: ``nas plot`` does.
    """

    folder: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def nas(self, *args: str | Path) -> Answer:
        self.capsys.readouterr()
        self.monkeypatch.chdir(self.folder)
        self.monkeypatch.setattr(sys, "argv", ["nas", *map(str, args)])
        code, error, handler = 0, None, signal.getsignal(signal.SIGINT)
        try:
            with _undrawn() if args[:1] in (("search",), ("resume",), ("compress",)) else nullcontext():
                main()
        except SystemExit as exit_:
            error = getattr(exit_.__context__, "code", None)
            code = exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
        finally:
            signal.signal(signal.SIGINT, handler)
        captured = self.capsys.readouterr()
        return Answer(code, captured.out, captured.err, error if isinstance(error, str) else None)

    def job(self, text: str = SMALL_JOB, name: str = "job.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def runs(self) -> set[str]:
        """Folders below ``runs``, without hidden ones."""
        root = self.folder / "runs"
        return {p.name for p in root.iterdir() if p.name[0] != "."} if root.is_dir() else set()


def output_of(folder: Path, *arguments: str) -> str:
    """What ``nas ARGUMENTS`` prints in a folder, for fixtures of several tests: with short rounds, and with figures drawn."""
    output, code, handler = StringIO(), None, signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(output):
        take_short_rounds(patched)
        patched.chdir(folder)
        patched.setattr(sys, "argv", ["nas", *arguments])
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        finally:
            signal.signal(signal.SIGINT, handler)
    assert code in (0, None), code
    return output.getvalue()


def assert_error(answer: Answer, *parts: str, code: str | None = None) -> None:
    """One or two lines on stderr that hold all parts, nothing on stdout, exit code 1, and this error code if given."""
    assert answer.code == 1, answer
    assert code in (None, answer.error), answer
    assert answer.out == ""
    message = answer.err.strip().splitlines()
    assert len(message) <= 2, answer.err
    assert message[-1].startswith("error: ") or message[0].startswith("error: ")
    for part in parts:
        assert part in answer.err, answer.err
