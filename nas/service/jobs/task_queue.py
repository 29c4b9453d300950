"""Tasks (exports, measurements): requested, queued, and run one at a time, each in a process of its own."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nas.errors import ServiceError, TooManyError, UnknownNameError
from nas.service.jobs.job_runner import JobRunner, JobState
from nas.service.jobs.task_process import TaskResult
from nas.service.state import ServiceState, Task, TaskKind, TaskStatus

TIME_LIMIT_S = 1800.0
"""Time limit of a task whose request has none."""
_MOST_OPEN = 50
"""Tasks that wait or run at once."""

logger = logging.getLogger(__name__)


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
            raise TooManyError(f"{n} exports and measurements wait or run, the limit; try again when some are done")
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
        """One task."""
        found = {one.task: one for one in self.list(kind, of)}
        if task not in found:
            raise UnknownNameError(kind, task, found, where=of)
        return found[task]


class TaskQueue:
    """The tasks of a server.

    Keys of a task's request: ``argv``, its command, which prints a JSON object; ``result``, the path of its result file;
    ``time_limit_s``, where it has another limit than the default; and ``uses``, paths of files to remove when it has ended.
    """

    def __init__(self, state: ServiceState, runner: JobRunner) -> None:
        self._state, self._runner = state, runner
        self._open: Sequence[Task] = ()

    @property
    def open(self) -> bool:
        """Whether a task waited or ran at the last `look`."""
        return bool(self._open)

    @property
    def jobs(self) -> list[str]:
        """The jobs of the tasks that ran at the last `look`."""
        return [job_of(task) for task in self._open if task.status is TaskStatus.RUNNING]

    def look(self) -> bool:
        """Reads the open tasks; whether there are some."""
        self._open = self._state.open_tasks()
        return self.open

    def tick(self, jobs: Mapping[str, JobState]) -> list[tuple[str, str]]:
        """Runs one round over the open tasks; their new statuses, by task. A failure affects one task, and is logged."""
        did: list[tuple[str, str]] = []
        for task in self._open:
            try:
                now = self._advance(task, jobs)
            except ServiceError as error:
                logger.warning("%s", error, extra={"task": task.task})
                break
            except Exception:
                logger.exception("the task failed", extra={"task": task.task})
                continue
            if now is not task.status:
                did.append((task.task, str(now)))
            if now is TaskStatus.RUNNING:
                break
        return did

    def _advance(self, task: Task, jobs: Mapping[str, JobState]) -> TaskStatus:
        """Takes a task's next step; its new status."""
        if task.status is TaskStatus.QUEUED:
            # The job first: starting it again has no effect, and every running task has one.
            self._runner.start(job_of(task), task_command(task))
            self._state.change_task(task.task, TaskStatus.RUNNING)
            return TaskStatus.RUNNING
        if jobs.get(job_of(task), JobState.ENDED) is not JobState.ENDED:
            return TaskStatus.RUNNING
        for path in task.request.get("uses", ()):
            Path(path).unlink(missing_ok=True)
        try:
            result = TaskResult.read(Path(task.request["result"]))
            if result is None:
                raise ServiceError(f"its process was killed{_last_words(self._runner, task)}")
            self._state.change_task(task.task, TaskStatus.FINISHED, result=result.data)
        except ServiceError as error:
            self._state.change_task(task.task, TaskStatus.FAILED, reason=str(error))
            return TaskStatus.FAILED
        return TaskStatus.FINISHED


def status_fields(task: Task) -> dict[str, Any]:
    """The fields of a task that its schema shares with those of other kinds."""
    submitted = datetime.fromtimestamp(task.submitted, UTC)
    return {"status": str(task.status), "reason": task.reason, "submitted": submitted}


def job_of(task: Task) -> str:
    """The id of a task's job, different from those of all runs."""
    return f"{task.task}.task"


def task_command(task: Task) -> list[str]:
    """The command line of a task's process."""
    limit = float(task.request.get("time_limit_s", TIME_LIMIT_S))
    own = [str(argument) for argument in task.request["argv"]]
    return [
        sys.executable, "-P", "-m", "nas.cli", "task", "--result", str(task.request["result"]),
        "--time-limit", f"{limit:g}", "--", *own,
    ]  # fmt: skip


def _last_words(runner: JobRunner, task: Task) -> str:
    lines = [line.strip() for line in runner.logs(job_of(task)).splitlines() if line.strip()]
    return f"; it last wrote: {lines[-1][:300]}" if lines else ""
