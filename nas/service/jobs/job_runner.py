"""Protocols of job runners, which run the commands of drivers and tasks, and of the Ray cluster that jobs run on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
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

    def start(self, job: str, argv: Sequence[str], log: Path) -> None:
        """Starts a command, unless a job of this id was started before.

        Args:
            job: an id of letters, digits, ``.``, ``_`` and ``-``.
            argv: the program and its arguments, which no shell interprets.
            log: the file that its output (stdout and stderr) is appended to; its folder exists.
        """

    def states(self, jobs: Collection[str]) -> Mapping[str, JobState]:
        """The states by id of those of these jobs that are known; without jobs, a check that the runner answers."""

    def stop(self, job: str) -> None:
        """Stops a job (SIGTERM, then SIGKILL), unless it has ended or is not known."""

    def nodes(self) -> Sequence[Mapping[str, float]]:
        """The resources of each live node of the cluster that jobs join."""


class Cluster(Protocol):
    """How a Ray cluster is reached."""

    @property
    def address(self) -> str:
        """``HOST:PORT`` that drivers join."""

    @property
    def jobs_url(self) -> str:
        """The URL of its job server."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that its job server needs with every request; secret."""


@dataclass(frozen=True)
class ExternalCluster:
    """A Ray cluster that the server did not start; if it needs a token, Ray reads that from its environment variables."""

    address: str
    jobs_url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def ready(self) -> Cluster:
        """This cluster, which others supervise."""
        return self
