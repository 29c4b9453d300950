"""What the service needs of whatever runs its jobs: the protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol


class JobState(StrEnum):
    """Where a job's process stands; whether its work succeeded is told by what it wrote."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"


class JobRunner(Protocol):
    """Runs commands that outlive the server.

    Raises:
        ServiceError: from any method, where what runs the jobs does not answer (now).
    """

    def start(self, job: str, argv: Sequence[str]) -> None:
        """Starts a command; does nothing where a job of this id was started before.

        Args:
            job: an id of letters, digits, ``.``, ``_`` and ``-``.
            argv: the program and its arguments; never seen by a shell.
        """
        ...

    def states(self, jobs: Collection[str]) -> Mapping[str, JobState]:
        """Of those of these jobs that are known, by id; asked of none, it only looks whether there is an answer."""
        ...

    def stop(self, job: str) -> None:
        """Asks a job to end (SIGTERM, then SIGKILL); does nothing where it has ended or is not known."""
        ...

    def logs(self, job: str) -> str:
        """What a job wrote so far, stdout and stderr together; empty where it is not known."""
        ...
