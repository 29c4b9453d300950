"""Runs tasks (exports, measurements), one at a time, each once, in a process of its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.errors import ServiceError
from nas.service.jobs.job_runner import JobRunner, JobState
from nas.service.jobs.task_process import TaskResult
from nas.service.state import ServiceState, Task, TaskStatus

TIME_LIMIT_S = 1800.0
"""Of a task whose request sets none."""

logger = logging.getLogger(__name__)


class TaskQueue:
    """The queue of tasks.

    What is asked for of a task: ``argv``, its command, which prints a JSON object; ``result``, the path of the file that
    keeps what it printed and how it ended; ``time_limit_s``, if it may take longer or less long than others; and ``uses``,
    paths of files that nothing needs once it is done.
    """

    def __init__(self, state: ServiceState, runner: JobRunner) -> None:
        self._state, self._runner = state, runner
        self._open: Sequence[Task] = ()

    @property
    def open(self) -> bool:
        """Whether one waited or ran when it was last looked."""
        return bool(self._open)

    @property
    def jobs(self) -> list[str]:
        """Those of the tasks that ran when it was last looked."""
        return [job_of(task) for task in self._open if task.status is TaskStatus.RUNNING]

    def look(self) -> bool:
        """Whether one waits or runs."""
        self._open = self._state.open_tasks()
        return self.open

    def tick(self, jobs: Mapping[str, JobState]) -> list[tuple[str, str]]:
        """One round over the tasks last looked at: what was done, by task. A failure of one is its own, and logged."""
        did: list[tuple[str, str]] = []
        for task in self._open:
            try:
                now = self._advance(task, jobs)
            except ServiceError as error:
                logger.warning("%s", error, extra={"task": task.task})
                break
            except Exception:
                logger.exception("cannot be done", extra={"task": task.task})
                continue
            if now is not task.status:
                did.append((task.task, str(now)))
            if now is TaskStatus.RUNNING:
                break
        return did

    def _advance(self, task: Task, jobs: Mapping[str, JobState]) -> TaskStatus:
        """Does for a task what is next; where it stands then."""
        if task.status is TaskStatus.QUEUED:
            # First the job, which is the same one however often it is started: a task that runs has one.
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


def job_of(task: Task) -> str:
    """The id of a task's job; no run has one like it."""
    return f"{task.task}.task"


def task_command(task: Task) -> list[str]:
    """The command that runs a task's own and keeps its result."""
    limit = float(task.request.get("time_limit_s", TIME_LIMIT_S))
    own = [str(argument) for argument in task.request["argv"]]
    return [
        sys.executable, "-P", "-m", "nas.cli", "task", "--result", str(task.request["result"]),
        "--time-limit", f"{limit:g}", "--", *own,
    ]  # fmt: skip


def _last_words(runner: JobRunner, task: Task) -> str:
    lines = [line.strip() for line in runner.logs(job_of(task)).splitlines() if line.strip()]
    return f"; it last wrote: {lines[-1][:300]}" if lines else ""
