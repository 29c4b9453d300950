"""The group of all commands: panels of `nas --help` in the order of use, flags without a type, next steps of errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

from nas.cli.remedies import step_after
from nas.engine.store.folder import DEFAULT_ROOT

PANELS: Mapping[str, tuple[str, ...]] = {
    "Start": ("init", "schema", "plan", "inspect", "capture"),
    "Run": ("search", "train", "resume", "finetune"),
    "Results": ("runs", "show", "plot", "label", "cascade", "export", "export-transformers", "export-study"),
    "Hardware": ("profiles", "profile", "calibrate"),
    "Server": (
        "serve",
        "token",
        "data",
        "models",
        "submit",
        "status",
        "watch",
        "logs",
        "cancel",
        "fetch",
        "tasks",
        "exports",
    ),
    "Tools": ("plugins", "doctor", "upgrade", "bench"),
}
"""The names of the commands by group."""
_RUNS_FOLDER = "nas.runs"
"""Key of the selected runs folder in the data that the contexts of a command share."""


def note_runs(context: typer.Context, runs: Path) -> Path:
    """Keeps the value of ``--runs`` for the commands that error messages name."""
    context.meta[_RUNS_FOLDER] = runs
    return runs


class CommandGroup(TyperGroup):
    """The application's commands, listed by panel; one that `PANELS` lacks is listed before them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for panel, names in PANELS.items():
            for name in names:
                if (command := self.commands.pop(name, None)) is not None:
                    command.rich_help_panel = panel  # type: ignore[attr-defined]  # Typer's, of commands and groups
                    self.commands[name] = command  # to the end
        _without_types_of_flags(self)

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; an error gets a note with the command that the user types next, where there is one."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if step := step_after(error, ctx.meta.get(_RUNS_FOLDER, DEFAULT_ROOT)):
                error.add_note(f"next: {step}")
            raise


def _without_types_of_flags(command: Any) -> None:
    """Drops Typer's ``<bool>`` after flags in a command's help and in those below it: it reads like a value to give."""
    for parameter in command.get_params(typer.Context(command)):
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""
    for below in getattr(command, "commands", {}).values():
        _without_types_of_flags(below)
