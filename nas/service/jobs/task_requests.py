"""Requests for tasks: short commands that run once, each in a process of its own (exports and measurements)."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.errors import TooManyError, UnknownNameError
from nas.service.state import ServiceState, Task, TaskKind

_MOST_OPEN = 50
"""Tasks that wait or run at once."""


class TaskRequests:
    """The tasks of a server.

    Args:
        wake: called when there is a new task.
    """

    def __init__(self, state: ServiceState, wake: Callable[[], None]) -> None:
        self._state, self._wake = state, wake

    def new_id(self, kind: TaskKind) -> str:
        """A new random id.

        Raises:
            TooManyError: too many wait already.
        """
        n = len(self._state.open_tasks())
        if n >= _MOST_OPEN:
            raise TooManyError(
                f"{n} exports and measurements wait or run already, the limit; try again when some are done"
            )
        return f"{kind}-{secrets.token_hex(8)}"

    def add(
        self,
        task: str,
        kind: TaskKind,
        of: str,
        folder: Path,
        argv: Sequence[str],
        asked: Mapping[str, Any] | None = None,
        *,
        uses: Sequence[Path] = (),
    ) -> Task:
        """A new task, which runs ``nas`` with these arguments.

        Args:
            folder: the task's own, for the result of its command.
            asked: the client's request, which is returned with the task.
            uses: files of this task only, which are removed when it has ended.
        """
        request = {
            "argv": [sys.executable, "-P", "-m", "nas.cli", *argv],
            "result": str(folder / "result.json"),
            "asked": dict(asked or {}),
            "uses": [str(path) for path in uses],
        }
        made = self._state.add_task(task, kind, of, request)
        self._wake()
        return made

    def list(self, kind: TaskKind, of: str) -> list[Task]:
        """The tasks of a run or profile, oldest first."""
        return [task for task in self._state.tasks(of) if task.kind == kind]

    def get(self, task: str, kind: TaskKind, of: str) -> Task:
        """One task.

        Raises:
            UnknownNameError: there is none of this id.
        """
        found = {one.task: one for one in self.list(kind, of)}
        if task not in found:
            raise UnknownNameError(kind, task, found, where=of)
        return found[task]
