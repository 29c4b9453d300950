"""Runs tasks (exports, measurements), one of each kind at a time, each in a process of its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.errors import ServiceError
from nas.service.jobs.driver_jobs import tail
from nas.service.jobs.job_runner import JobRunner, JobState
from nas.service.jobs.task_process import TaskResult
from nas.service.state import ServiceState, Task, TaskStatus

TASK_LOG = "task.log"
"""In the folder of a task, the output of its process, which is none unless it fails."""
_TIME_LIMIT_S = 1800.0
"""Of a task whose request has none: those of version 0.1."""
_LOG_BYTES = 64 * 1024

logger = logging.getLogger(__name__)


class TaskQueue:
    """The open tasks of a server, of which one of each kind runs at a time: an endless model holds up no export.

    Keys of a task's request: ``argv``, its command, which prints a JSON object; ``result``, the path of its result file;
    ``time_limit_s``, where it has another limit than the default; ``uses``, paths of files to remove when it has ended; and
    ``joins``, whether its command joins a Ray cluster.

    Args:
        stop: stops a job, unless that was done a moment ago; None for `runner.stop`.
        address: of the Ray cluster that commands join, or None for commands without Ray.
    """

    def __init__(
        self,
        state: ServiceState,
        runner: JobRunner,
        *,
        stop: Callable[[str], object] | None = None,
        address: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._state, self._runner, self._address = state, runner, address
        self._stop = stop or runner.stop
        self._open: Sequence[Task] = ()

    @property
    def open(self) -> bool:
        """True if a task waited or ran at the last `look`."""
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
        running: set[str] = set()  # kinds
        for task in self._open:
            if task.status is TaskStatus.QUEUED and task.kind in running and not task.cancelled:
                continue
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
                running.add(task.kind)
        return did

    def _advance(self, task: Task, jobs: Mapping[str, JobState]) -> TaskStatus:
        """Takes a task's next step; its new status."""
        if task.status is TaskStatus.QUEUED and task.cancelled:
            return self._end(task, TaskStatus.CANCELLED)
        if task.status is TaskStatus.QUEUED:
            # The job first: starting it again has no effect, and every running task has one.
            command = task_command(task)
            if task.request.get("joins", False):
                command += joining(self._address())
            self._runner.start(job_of(task), command, _log_of(task))
            self._state.change_task(task.task, TaskStatus.RUNNING)
            return TaskStatus.RUNNING
        if jobs.get(job_of(task), JobState.ENDED) is not JobState.ENDED:
            if task.cancelled:
                self._stop(job_of(task))
            return TaskStatus.RUNNING
        try:
            result = TaskResult.read(Path(task.request["result"]))
            if result is None and task.cancelled:
                return self._end(task, TaskStatus.CANCELLED)
            if result is None:
                raise ServiceError(f"its process was killed{_last_words(task)}")
            return self._end(task, TaskStatus.FINISHED, result=result.data)
        except ServiceError as error:
            return self._end(task, TaskStatus.FAILED, reason=str(error))

    def _end(self, task: Task, status: TaskStatus, **values: Any) -> TaskStatus:
        """Records how a task ended, and removes the files that only it uses."""
        for path in task.request.get("uses", ()):
            Path(path).unlink(missing_ok=True)
        self._state.change_task(task.task, status, **values)
        return status


def joining(address: str | None) -> list[str]:
    """The options of a command that joins a Ray cluster, or does without Ray."""
    return ["--inline"] if address is None else ["--address", address]


def job_of(task: Task) -> str:
    """The id of a task's job, different from those of all runs."""
    return f"{task.task}.task"


def time_limit_of(task: Task) -> float:
    """The time limit of a task's command in seconds."""
    return float(task.request.get("time_limit_s", _TIME_LIMIT_S))


def task_command(task: Task) -> list[str]:
    """The command line of a task's process."""
    arguments = [str(argument) for argument in task.request["argv"]]
    return [
        sys.executable,
        "-P",
        "-m",
        "nas.cli",
        "task",
        "--result",
        str(task.request["result"]),
        "--time-limit",
        f"{time_limit_of(task):g}",
        "--",
        *arguments,
    ]


def _log_of(task: Task) -> Path:
    """The file for the output of a task's process, beside that of its command."""
    return Path(task.request["result"]).with_name(TASK_LOG)


def _last_words(task: Task) -> str:
    """The last line that its command wrote, or else its process."""
    written = Path(task.request["result"]).with_suffix(".log"), _log_of(task)
    lines = [line.strip() for path in reversed(written) for line in tail(path, _LOG_BYTES).splitlines() if line.strip()]
    return f"; it last wrote: {lines[-1][:300]}" if lines else ""
