"""Protocol of job runners, which run the commands of drivers and tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol


class JobState(StrEnum):
    """The state of a job's process; its store or result file records whether its work succeeded."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"


class JobRunner(Protocol):
    """Runs commands that outlive the server.

    Raises:
        ServiceError: from any method, where the runner does not answer now.
    """

    def start(self, job: str, argv: Sequence[str]) -> None:
        """Starts a command, unless a job of this id was started before.

        Args:
            job: an id of letters, digits, ``.``, ``_`` and ``-``.
            argv: the program and its arguments, which no shell interprets.
        """
        ...

    def states(self, jobs: Collection[str]) -> Mapping[str, JobState]:
        """By id, the states of those of these jobs that are known; without jobs, a check that the runner answers."""
        ...

    def stop(self, job: str) -> None:
        """Stops a job (SIGTERM, then SIGKILL), unless it has ended or is not known."""
        ...

    def logs(self, job: str) -> str:
        """The output of a job so far, stdout and stderr together; empty where it is not known."""
        ...
