"""The next steps of runs and errors as commands that a user can copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from nas.engine.store.folder import DEFAULT_ROOT
from nas.errors import REPEAT, Remedy, remedy_of

_ON_RUNS = frozenset({"export", "export-transformers", "plot", "resume", "runs", "show", "upgrade"})
"""Actions that look for runs in a folder."""
_AGAIN = "the same command with"
_BY_CODE: Mapping[str, str] = {
    "capture.input-unknown": f"{_AGAIN} --input 3x224x224",
    "capture.malformed": "nas capture MODEL -o FILE",
    "capture.unknown-name": "nas inspect MODEL",
    "lookup-table.other-format": "nas calibrate PROFILE --job JOB",
    "lookup-table.other-profile": "nas calibrate PROFILE --job JOB",
    "model.shape-required": f"{_AGAIN} --shape NAME=1x3x224x224",
}
"""Next steps of errors of the libraries, which know no remedy, by their codes."""


def run_command(command: str, run: str, runs: Path) -> str:
    """A command on a run, with the runs folder where that is not the default one."""
    folder = ["--runs", shlex.quote(str(runs))] if runs != DEFAULT_ROOT else []
    return " ".join(["nas", command, *_target(run), *folder])


def remedy_text(remedy: Remedy, runs: Path) -> str:
    """A remedy as a command, or as what to add to the same command.

    Args:
        runs: The runs folder that the user has selected.
    """
    if remedy.action == REPEAT:
        words = [_AGAIN]
    elif remedy.action in _ON_RUNS:
        words = [run_command(remedy.action, remedy.target, runs)]
    else:
        words = ["nas", remedy.action, *_target(remedy.target)]
    for name, value in remedy.options.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [shlex.quote(str(value))])]
    return " ".join(words)


def step_after(error: Exception, runs: Path) -> str:
    """The next step after an error, by its remedy or else by its code; "" where there is none."""
    remedy = remedy_of(error)
    return _BY_CODE.get(getattr(error, "code", ""), "") if remedy is None else remedy_text(remedy, runs)


def next_text(remedy: Remedy | None, runs: Path) -> str:
    """The command of the next step; "" where there is none."""
    return "" if remedy is None else remedy_text(remedy, runs)


def _target(name: str) -> list[str]:
    return [shlex.quote(name)] if name else []
