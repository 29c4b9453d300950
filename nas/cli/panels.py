"""The groups of commands in `nas --help`, and their order: that of use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperGroup

PANELS: Mapping[str, tuple[str, ...]] = {
    "Start": ("init", "schema", "plan", "inspect", "capture"),
    "Run": ("search", "train", "resume", "finetune"),
    "Results": ("runs", "show", "plot", "label", "export", "export-transformers", "export-study"),
    "Hardware": ("profiles", "profile", "calibrate"),
    "Server": ("serve", "token", "data", "submit", "status", "watch", "logs", "cancel", "fetch", "tasks", "exports"),
    "Tools": ("plugins", "doctor", "upgrade", "bench"),
}
"""The names of the commands by group."""


class CommandGroup(TyperGroup):
    """The application's commands, listed by panel; one that `PANELS` lacks is listed before them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for panel, names in PANELS.items():
            for name in names:
                if (command := self.commands.pop(name, None)) is not None:
                    command.rich_help_panel = panel  # type: ignore[attr-defined]  # Typer's, of commands and groups
                    self.commands[name] = command  # to the end
