"""The group of all commands: panels of `nas --help` in the order of use, flags without a type, errors with their options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

from nas.cli.remedies import show_parameter, step_after
from nas.engine.store.folder import DEFAULT_ROOT

PANELS: Mapping[str, tuple[str, ...]] = {
    "Start": ("init", "schema", "plan", "inspect", "capture"),
    "Run": ("compress", "search", "train", "resume", "finetune"),
    "Results": ("runs", "show", "plot", "label", "cascade", "export", "export-transformers", "export-study"),
    "Hardware": ("profiles", "devices", "profile", "calibrate"),
    "Server": (
        "serve",
        "token",
        "data",
        "models",
        "submit",
        "status",
        "queue",
        "watch",
        "logs",
        "cancel",
        "delete",
        "fetch",
        "tasks",
        "exports",
    ),
    "Tools": ("plugins", "doctor", "upgrade", "bench"),
}
"""The names of the commands by group."""
_RUNS_FOLDER, _OPTIONS = "nas.runs", "nas.options"
"""Keys of the selected runs folder, and of the options of a command that failed, in the data that its contexts share."""


def note_runs(context: typer.Context, runs: Path) -> Path:
    """Keeps the value of ``--runs`` for the commands that error messages name."""
    context.meta[_RUNS_FOLDER] = runs
    return runs


class NotingGroup(TyperGroup):
    """A group of commands that notes the options of one that fails."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception:
            failed = self.commands.get(ctx.invoked_subcommand, self)
            ctx.meta.setdefault(_OPTIONS, {name for parameter in failed.params for name in parameter.opts})
            raise


class CommandGroup(NotingGroup):
    """The application's commands, listed by panel; one that `PANELS` lacks is listed before them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for panel, names in PANELS.items():
            for name in names:
                if (command := self.commands.pop(name, None)) is not None:
                    command.rich_help_panel = panel  # type: ignore[attr-defined]  # Typer's, of commands and groups
                    self.commands[name] = command  # to the end
        _without_types_of_flags(self)

    def get_params(self, ctx: Any) -> Any:
        """All options, those for completion included, which Typer adds to the finished group."""
        parameters = super().get_params(ctx)
        _without_types(parameters)
        return parameters

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; an error names its options, and has a note with the command that the user types next."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            show_parameter(error, ctx.meta[_OPTIONS])
            if step := step_after(error, ctx.meta.get(_RUNS_FOLDER, DEFAULT_ROOT), ctx.meta[_OPTIONS]):
                error.add_note(f"next: {step}")
            raise


def _without_types_of_flags(command: Any) -> None:
    """Drops Typer's ``<bool>`` after flags in a command's help and in those below it: it reads like a value to give."""
    _without_types(command.get_params(typer.Context(command)))
    for below in getattr(command, "commands", {}).values():
        _without_types_of_flags(below)


def _without_types(parameters: Iterable[Any]) -> None:
    for parameter in parameters:
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""
