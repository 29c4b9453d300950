"""What tasks make of a run, each in a folder of its own below the run's: requested, listed, downloaded and deleted."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from nas.errors import RunStateError, UnknownNameError
from nas.service.settings import ServiceSettings
from nas.service.state import Task, TaskKind
from nas.service.tasks import TaskRequests, folder_of
from nas.service.uploads.storage_checks import check_disk_space, check_quota
from nas.service.views.open_runs import OpenRuns

ProductT = TypeVar("ProductT")


class RunTasks(ABC, Generic[ProductT]):
    """The products of some kinds of tasks, as the API describes them by `ProductT`.

    Args:
        users: The runs that need them, and what the jobs of runs need.

    Attributes:
        noun: The word for one; its plural names their folder and their address below those of the run.
        kinds: Kinds of the tasks that make them.
    """

    noun: ClassVar[str]
    kinds: ClassVar[tuple[TaskKind, ...]]

    def __init__(self, settings: ServiceSettings, tasks: TaskRequests, users: OpenRuns) -> None:
        self._runs, self._max_of_run = settings.runs, settings.limits.exports_of_a_run
        self._tasks, self._users = tasks, users

    def list(self, run: str) -> tuple[ProductT, ...]:
        """All of a run, the oldest first."""
        return tuple(map(self._described, self._stored(run)))

    def get(self, run: str, name: str) -> ProductT:
        """One of a run, by its id."""
        return self._described(self._task(run, name))

    def delete(self, run: str, name: str) -> None:
        """Removes one that has ended, with its files.

        Raises:
            RunStateError: it waits or runs.
        """
        self._tasks.delete(name, TaskKind(self._task(run, name).kind), run)

    def file(self, run: str, name: str, file: str) -> Path:
        """The path of a file of a finished one."""
        return self._tasks.file(self._task(run, name), file)

    def files(self, run: str, name: str) -> dict[str, Path]:
        """The paths of the files of a finished one, by their names.

        Raises:
            RunStateError: it has none.
        """
        task = self._task(run, name)
        path_by_name = self._files(task)
        if not path_by_name:
            text = f"the {self.noun} {name!r} is {task.status} and has no files"
            raise RunStateError(text, code="export.no-files")
        return path_by_name

    def files_of_run(self, run: str) -> dict[str, Path]:
        """The paths of the files of all of a run, by their paths below its folder."""
        return {
            f"{self.noun}s/{task.task}/{name}": path
            for task in self._stored(run)
            for name, path in self._files(task).items()
        }

    def _files(self, task: Task) -> dict[str, Path]:
        return {path.name: path for path in self._tasks.paths(task)}

    def _request(
        self, run: str, kind: TaskKind, command: Callable[[Path], Sequence[str]], request: Mapping[str, Any]
    ) -> ProductT:
        """A new one, which a task makes.

        Args:
            command: The arguments of ``nas`` that write it into a folder.
            request: The client's request.

        Raises:
            RunStateError: the run has too many.
            TooManyError: too many tasks wait.
            StoreError: the disk is nearly full.
        """
        task, root = self._tasks.new_id(kind), self._runs.root.absolute()
        folder = (self._runs.get(run).path / f"{self.noun}s" / task).absolute()
        argv = [*command(folder), "--runs", str(root), "--json"]
        check_disk_space(root)
        remedy = f"DELETE /api/v1/runs/{run}/{self.noun}s/{self.noun.upper()}"
        check_quota(f"{self.noun}s of run {run}", len(self._stored(run)), self._max_of_run, remedy)
        folder.mkdir(parents=True)
        return self._described(self._tasks.add(task, kind, run, folder, argv, request))

    def _stored(self, run: str) -> Sequence[Task]:
        self._runs.get(run)
        tasks = [task for kind in self.kinds for task in self._tasks.list(kind, run)]
        return sorted(tasks, key=lambda task: (task.submitted, task.task))

    def _task(self, run: str, name: str) -> Task:
        task_by_id = {task.task: task for task in self._stored(run)}
        if name not in task_by_id:
            raise UnknownNameError(self.noun, name, filter(self._tasks.sees, task_by_id), where=run)
        return task_by_id[name]

    def _fields(self, task: Task) -> dict[str, Any]:
        """The fields of a product, without paths of the server."""
        return {
            self.noun: task.task,
            "run": task.of,
            "request": task.request["asked"],
            "files": self._tasks.files(task),
            "result": None if task.result is None else _without_folder(dict(task.result), folder_of(task)),
            **self._tasks.status_fields(task),
        }

    @abstractmethod
    def _described(self, task: Task) -> ProductT:
        """The product of a task as the API describes it."""


def _without_folder(value: Any, folder: Path) -> Any:
    """A command's output with paths below a folder in place of whole ones."""
    if isinstance(value, dict):
        return {key: _without_folder(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folder(item, folder) for item in value]
    return value.replace(f"{folder}{os.sep}", "") if isinstance(value, str) else value
