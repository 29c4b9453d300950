"""Errors as the command line prints them: parameters as options, and next steps as commands that a user can copy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from nas.engine.store.folder import DEFAULT_ROOT
from nas.errors import REPEAT, Remedy, remedy_of

_ON_RUNS = frozenset({"export", "export-transformers", "plot", "resume", "runs", "show", "upgrade"})
"""Actions that look for runs in a folder."""
_AGAIN = "the same command with"
CAPTURE = Remedy("capture", "MODEL", {"output": "FILE"})
_CALIBRATE = Remedy("calibrate", "PROFILE", {"job": "JOB"})
_BY_CODE: Mapping[str, Remedy] = {
    "capture.input-unknown": Remedy(REPEAT, options={"input": "3x224x224"}),
    "capture.malformed": CAPTURE,
    "capture.unknown-name": Remedy("inspect", "MODEL"),
    "lookup-table.other-format": _CALIBRATE,
    "lookup-table.other-profile": _CALIBRATE,
    "name.taken": Remedy(REPEAT, options={"name": "NAME"}),
    "profile.browser-download": Remedy(REPEAT, options={"archive": "FILE"}),
    "profile.no-browser-runtime": Remedy("devices", "setup"),
    "model.shape-required": Remedy(REPEAT, options={"shape": "NAME=1x3x224x224"}),
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
        words += [_option(name), *([] if value is True else [shlex.quote(str(value))])]
    return " ".join(words)


def step_after(error: Exception, runs: Path, options: AbstractSet[str]) -> str:
    """The next step after an error, by its remedy or else by its code; "" where there is none.

    Args:
        options: The options of the command that failed: one that it lacks is not suggested for a repetition.
    """
    remedy = remedy_of(error) or _BY_CODE.get(getattr(error, "code", ""))
    if remedy is not None and remedy.action == REPEAT and not options >= set(map(_option, remedy.options)):
        return ""
    return next_text(remedy, runs)


def show_parameter(error: Exception, options: AbstractSet[str]) -> None:
    """Replaces the parameter that an error's message names by its option, where the command that failed has it."""
    parameter = getattr(error, "parameter", "")
    if parameter and _option(parameter) in options:
        error.args = (re.sub(rf"(^|: ){re.escape(parameter)}\b", rf"\g<1>{_option(parameter)}", str(error), count=1),)


def next_text(remedy: Remedy | None, runs: Path) -> str:
    """The command of the next step; "" where there is none."""
    return "" if remedy is None else remedy_text(remedy, runs)


def _option(parameter: str) -> str:
    return f"--{parameter.replace('_', '-')}"


def _target(name: str) -> list[str]:
    return [shlex.quote(name)] if name else []
