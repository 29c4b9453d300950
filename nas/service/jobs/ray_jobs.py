"""Jobs of a Ray cluster: processes that outlive the server."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from nas.errors import ServiceError
from nas.service.jobs.job_runner import Cluster, JobState

_ANSWER_S = (5.0, 30.0)
"""Timeouts of connecting to the job server and of its answer; Ray's own client has none."""
_STATES = {"PENDING": JobState.PENDING, "RUNNING": JobState.RUNNING}
"""All other states are final."""
_FEW = 20
"""At most this many jobs are queried one by one, in some milliseconds each; the list of all jobs only grows, and takes a second
once there have been 3,000."""
_NO_JOB = "-"
"""An id of no job."""


class RayJobs:
    """A `JobRunner` over a cluster's job server. Safe to use from several threads.

    Args:
        cluster: returns the cluster, or raises `ServiceError` while it is not ready.
        password_file: Path of a file with the passwords of database servers, as libpq reads it; None for the cluster's own
            environment. The cluster may be older than the server, and command lines are no place for a password.
    """

    def __init__(self, cluster: Callable[[], Cluster], *, password_file: Path | None = None) -> None:
        self._cluster = cluster
        self._variables: list[str] = []
        if password_file is not None:
            self._variables = ["-u", "PGPASSWORD", f"PGPASSFILE={password_file}"]
        self._lock = threading.Lock()
        self._client: tuple[str, Any] | None = None  # with the URL that it is for

    def start(self, job: str, argv: Sequence[str], log: Path) -> None:
        with self._requests() as client:
            try:
                client.submit_job(
                    entrypoint=_entrypoint(argv, log, self._variables), submission_id=job, entrypoint_num_cpus=0
                )
            except RuntimeError:
                if job not in self.states([job]):
                    raise

    def states(self, jobs: Collection[str]) -> Mapping[str, JobState]:
        with self._requests() as client:
            if len(jobs) > _FEW:
                status_by_job = {job.submission_id: str(job.status.value) for job in client.list_jobs()}
            else:
                status_by_job = {job: client.status(job) for job in jobs or [_NO_JOB]}
        return {
            job: _STATES.get(status, JobState.ENDED) for job in jobs if (status := status_by_job.get(job)) is not None
        }

    def stop(self, job: str) -> None:
        with self._requests() as client:
            try:
                client.stop_job(job)
            except RuntimeError:
                if self.states([job]).get(job, JobState.ENDED) is not JobState.ENDED:
                    raise

    def nodes(self) -> Sequence[Mapping[str, float]]:
        with self._requests() as client:
            return list(client.nodes())

    @contextmanager
    def _requests(self) -> Iterator[Any]:
        """A client of the job server, whose failures are raised as `ServiceError`."""
        try:
            yield self._connected()
        except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:  # requests' errors are OSErrors
            cause = " ".join(str(error).split())[:300]
            text = f"Ray's job server rejects a request or does not answer ({cause}); check that Ray runs"
            raise ServiceError(text, code="job-server.unavailable") from error

    def _connected(self) -> Any:
        cluster = self._cluster()
        url = cluster.jobs_url
        with self._lock:
            if self._client is None or self._client[0] != url:
                self._client = (url, _client(url, cluster.headers))
            return self._client[1]


def _entrypoint(argv: Sequence[str], log: Path, variables: Sequence[str] = ()) -> str:
    """A quoted command line for the shell that Ray starts, which it replaces so that it gets the signals.

    The output goes to a file of the caller, since Ray's own logs end with its head. Ray limits a job without a reserved core
    to one thread; drivers use as many as commands do.

    Args:
        variables: Arguments of `env` that set and unset variables.
    """
    threads = [] if "OMP_NUM_THREADS" in os.environ else ["-u", "OMP_NUM_THREADS"]
    return f"exec {shlex.join(['env', *threads, *variables, *argv])} >>{shlex.quote(str(log.absolute()))} 2>&1"


def _client(url: str, headers: Mapping[str, str]) -> Any:
    from ray.job_submission import JobSubmissionClient  # takes a second to load

    class PatientClient(JobSubmissionClient):  # type: ignore[misc]
        """One with timeouts, for which an unknown job is no error."""

        def _do_request(self, *args: Any, **kwargs: Any) -> Any:
            """Sends a request; all go through this method, and its keywords to `requests`."""
            return super()._do_request(*args, **{"timeout": _ANSWER_S, **kwargs})

        def status(self, job: str) -> str | None:
            """Ray's name for the state of a job; None where it is not known."""
            answer = self._do_request("GET", f"/api/jobs/{job}")
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            if answer.status_code != HTTPStatus.OK:
                self._raise_error(answer)
            return str(answer.json()["status"])

        def nodes(self) -> list[dict[str, float]]:
            """The resources of the live nodes."""
            answer = self._do_request("GET", "/api/v0/nodes", params={"detail": "True"})
            if answer.status_code != HTTPStatus.OK:
                self._raise_error(answer)
            nodes = answer.json()["data"]["result"]["result"]
            return [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]

    return PatientClient(url, headers=dict(headers))
