"""Tasks as clients ask for them: requested, listed, cancelled and deleted."""

from __future__ import annotations

import hashlib
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from nas.errors import RunStateError, TooManyError, UnknownNameError
from nas.service.api import schemas
from nas.service.jobs.task_queue import TASK_LOG, time_limit_of
from nas.service.ownership import Ownership, Thing, ThingKind
from nas.service.path_privacy import PathPrivacy
from nas.service.people import current_caller
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, Task, TaskKind, TaskStatus
from nas.service.uploads.deletion import delete_folder

_MAX_OPEN = 50
"""Tasks that wait or run at once."""
_INTERNAL = frozenset({"result.json", "result.log", "result.out", TASK_LOG})
"""Files in the folder of a task that its command did not write."""


class TaskRequests:
    """The tasks of a server.

    Args:
        wake: called when a task is there for the dispatcher, or is cancelled.
        owners: decides who sees them.
    """

    def __init__(
        self, settings: ServiceSettings, state: ServiceState, wake: Callable[[], None], owners: Ownership
    ) -> None:
        self._max_of_person = settings.limits.tasks_of_person
        self._trash, self._time_limit_s = settings.trash, settings.limits.task_s
        self._state, self._wake, self._owners, self._hide_paths = state, wake, owners, PathPrivacy(settings)

    def new_id(self, kind: TaskKind) -> str:
        """A new random id.

        Raises:
            TooManyError: too many wait already.
        """
        open_tasks, person = self._state.open_tasks(), current_caller().name
        of_person = sum(task.submitter == person for task in open_tasks)
        if person and of_person >= self._max_of_person:
            text = f"{of_person} exports, measurements and plans of {person} wait or run, the limit of a person"
            raise TooManyError(f"{text}; cancel some, or try again when some are done", code="queue.person-limit")
        n = len(open_tasks)
        if n >= _MAX_OPEN:
            text = f"{n} tasks wait or run, the limit; cancel some, or try again when some are done"
            raise TooManyError(text)
        return f"{kind}-{secrets.token_hex(8)}"

    def add(
        self,
        task: str,
        kind: TaskKind,
        of: str,
        folder: Path,
        argv: Sequence[str],
        client_request: Mapping[str, Any] | None = None,
        *,
        uses: Sequence[Path] = (),
        joins: bool = False,
    ) -> Task:
        """A new task, which runs ``nas`` with these arguments.

        Args:
            folder: The task's own folder, for the result of its command.
            client_request: The client's request, which is returned with the task.
            uses: files of this task only, which are removed when it has ended.
            joins: whether the command joins the Ray cluster that drivers join.
        """
        request = {
            "argv": [sys.executable, "-P", "-m", "nas.cli", *argv],
            "result": str(folder / "result.json"),
            "asked": dict(client_request or {}),
            "uses": [str(path) for path in uses],
            "joins": joins,
            "time_limit_s": self._time_limit_s,
        }
        new_task = self._state.add_task(task, kind, of, request, current_caller().name)
        self._wake()
        return new_task

    def all(self, kind: str | None = None, status: str | None = None) -> tuple[schemas.Task, ...]:
        """The tasks of this kind and status that the sender of the request sees, the newest first."""
        tasks = [t for t in self._state.tasks() if kind in (None, t.kind) and status in (None, t.status)]
        return tuple(self._task(task) for task in reversed(tasks) if self.sees(task.task))

    def sees(self, task: str) -> bool:
        """True if the sender of the present request may know of a task."""
        return self._owners.sees(Thing(ThingKind.TASK, task))

    def cancel(self, task: str) -> schemas.Task:
        """Records that a task shall end; one that runs ends some seconds later.

        Raises:
            UnknownNameError: there is no such task.
            RunStateError: it has ended.
        """
        task_by_id = {stored_task.task: stored_task for stored_task in self._state.tasks()}
        if task not in task_by_id:
            raise UnknownNameError("task", task, filter(self.sees, task_by_id))
        if not task_by_id[task].open:
            text = f"{task} is {task_by_id[task].status}; there is nothing to cancel"
            raise RunStateError(text, code="task.ended")
        self._state.cancel_task(task)
        self._wake()
        return self._task(next(stored_task for stored_task in self._state.tasks() if stored_task.task == task))

    def list(self, kind: TaskKind, of: str | None) -> list[Task]:
        """The tasks of one run or profile, or of all, oldest first."""
        return [task for task in self._state.tasks(of) if task.kind == kind]

    def get(self, task: str, kind: TaskKind, of: str) -> Task:
        """One task."""
        task_by_id = {stored_task.task: stored_task for stored_task in self.list(kind, of)}
        if task not in task_by_id:
            raise UnknownNameError(kind, task, filter(self.sees, task_by_id), where=of)
        return task_by_id[task]

    def delete(self, task: str, kind: TaskKind, of: str) -> None:
        """Removes a task that has ended, with the files of its folder.

        Raises:
            RunStateError: it waits or runs.
        """
        stored_task = self.get(task, kind, of)
        if stored_task.open:
            raise RunStateError(f"{task} is {stored_task.status}; cancel it first", code="task.open")
        self._state.forget_task(task)
        delete_folder(folder_of(stored_task), self._trash)

    def files(self, task: Task) -> tuple[schemas.FileInfo, ...]:
        """The files that a finished task wrote, by name; none before it is finished."""
        stats = [(path, path.stat()) for path in self.paths(task)]
        return tuple(
            schemas.FileInfo(
                name=path.name, bytes=about.st_size, sha256=_sha256(path, about.st_size, about.st_mtime_ns)
            )
            for path, about in stats
        )

    def file(self, task: Task, name: str) -> Path:
        """The path of a file that a finished task wrote."""
        path_by_name = {path.name: path for path in self.paths(task)}
        if name not in path_by_name:
            raise UnknownNameError("file", name, path_by_name, where=task.task)
        return path_by_name[name]

    def paths(self, task: Task) -> Sequence[Path]:
        """The paths of the files of a finished task: those in its folder, and in one that is an export."""
        if task.status is not TaskStatus.FINISHED:
            return []
        folder = folder_of(task)
        patterns = ("[!.]*", "[!.]*/[!.]*") if task.kind == TaskKind.EXPORT else ("[!.]*",)
        return sorted(
            p for pattern in patterns for p in folder.glob(pattern) if p.is_file() and p.name not in _INTERNAL
        )

    def status_fields(self, task: Task) -> dict[str, Any]:
        """The fields of a task that its schema shares with those of other kinds."""
        submitted = datetime.fromtimestamp(task.submitted, UTC)
        reason = "is being cancelled" if task.open and task.cancelled else self._hide_paths(task.reason)
        return {
            "status": str(task.status),
            "reason": reason,
            "submitted": submitted,
            "time_limit_s": time_limit_of(task),
        }

    def _task(self, task: Task) -> schemas.Task:
        fields = {"task": task.task, "kind": task.kind, "of": task.of, "submitter": task.submitter}
        return schemas.Task.model_validate(fields | self.status_fields(task))


def folder_of(task: Task) -> Path:
    """The folder of a task's files."""
    return Path(task.request["result"]).parent


@lru_cache(10_000)
def _sha256(path: Path, size: int, changed: int) -> str:
    """The digest of a file of this size and modification time (ns)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
