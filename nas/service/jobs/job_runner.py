"""Protocols of job runners, which run the commands of drivers and tasks, and of the Ray cluster that jobs run on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
    """A Ray cluster, or one that is being started.

    Raises:
        ServiceError: from `address`, `jobs_url` and `headers`, while the cluster is not ready.
    """

    def start(self) -> None:
        """Starts to supervise it, in the background."""

    def close(self) -> None:
        """Ends the supervision; the cluster keeps running. Idempotent."""

    @property
    def problem(self) -> str:
        """Why no job can run, as far as is known; "" where jobs can run."""

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

    def start(self) -> None:
        """Does nothing: others supervise it."""

    def close(self) -> None:
        """Does nothing: others supervise it."""

    @property
    def problem(self) -> str:
        """Nothing is known."""
        return ""

    @property
    def headers(self) -> Mapping[str, str]:
        """None but those of Ray's client."""
        return {}
