"""Short commands that the service has run once, in processes of their own: exports and measurements."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.errors import TooManyError, UnknownNameError
from nas.service.state import ServiceState, Task, TaskKind

_MOST_OPEN = 50
"""TaskRequests that wait or run at once."""


class TaskRequests:
    """What was asked for, by kind."""

    def __init__(self, state: ServiceState) -> None:
        self._state = state

    def new_id(self, kind: TaskKind) -> str:
        """An id that nothing has, and nobody guesses.

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
        """Keeps a task to be done: ``nas`` with these arguments.

        Args:
            folder: the task's own; the result of its command comes to lie there.
            asked: what its client asked for, to be told again.
            uses: files of this task alone, which are removed when it is done.
        """
        request = {
            "argv": [sys.executable, "-P", "-m", "nas.cli", *argv],
            "result": str(folder / "result.json"),
            "asked": dict(asked or {}),
            "uses": [str(path) for path in uses],
        }
        return self._state.add_task(task, kind, of, request)

    def list(self, kind: TaskKind, of: str) -> list[Task]:
        """The tasks of a run or profile, oldest first."""
        return [task for task in self._state.tasks(of) if task.kind == kind]

    def get(self, task: str, kind: TaskKind, of: str) -> Task:
        """One of them.

        Raises:
            UnknownNameError: there is none of this id.
        """
        found = {one.task: one for one in self.list(kind, of)}
        if task not in found:
            raise UnknownNameError(kind, task, found, where=of)
        return found[task]
