"""Jobs of a Ray cluster: processes that outlive whoever asked for them."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from nas.errors import ServiceError
from nas.service.jobs.cluster import Cluster
from nas.service.jobs.job_runner import JobState

_ANSWER_S = (5.0, 30.0)
"""For the job server to be connected, and to answer; Ray's own client would wait for ever."""
_STATES = {"PENDING": JobState.PENDING, "RUNNING": JobState.RUNNING}
"""All others are ends."""
_FEW = 20
"""Jobs that are asked for one by one, in some milliseconds each; the list of all is never shortened, and takes a second when
there have been 3,000."""
_NO_JOB = "-"
"""An id that no job has."""
_RAYS_OWN = ("job_manager.py:", "Running entrypoint for job ")
"""Words of the lines that Ray writes before a job's own."""


class RayJobs:
    """A `JobRunner` over a cluster's job server. Safe to use from several threads."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._client: tuple[str, Any] | None = None  # with the URL that it is for

    def start(self, job: str, argv: Sequence[str]) -> None:
        with self._asking() as client:
            try:
                client.submit_job(entrypoint=_entrypoint(argv), submission_id=job, entrypoint_num_cpus=0)
            except RuntimeError:
                if job not in self.states([job]):
                    raise

    def states(self, jobs: Collection[str]) -> Mapping[str, JobState]:
        with self._asking() as client:
            if len(jobs) > _FEW:
                told = {job.submission_id: str(job.status.value) for job in client.list_jobs()}
            else:
                told = {job: client.status(job) for job in jobs or [_NO_JOB]}
        return {job: _STATES.get(status, JobState.ENDED) for job in jobs if (status := told.get(job)) is not None}

    def stop(self, job: str) -> None:
        with self._asking() as client:
            try:
                client.stop_job(job)
            except RuntimeError:
                if self.states([job]).get(job, JobState.ENDED) is not JobState.ENDED:
                    raise

    def logs(self, job: str) -> str:
        with self._asking() as client:
            try:
                lines = str(client.get_job_logs(job)).splitlines(keepends=True)
            except RuntimeError:
                if job in self.states([job]):
                    raise
                return ""
        return "".join(line for line in lines if not any(words in line for words in _RAYS_OWN))

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """A client of the job server; whatever keeps it from answering is a `ServiceError`."""
        try:
            yield self._connected()
        except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:  # requests' errors are OSErrors
            said = " ".join(str(error).split())[:300]
            raise ServiceError(
                f"Ray's job server rejects a request or does not answer ({said}); check that Ray runs",
                code="job-server.unavailable",
            ) from error

    def _connected(self) -> Any:
        url = self._cluster.jobs_url
        with self._lock:
            if self._client is None or self._client[0] != url:
                self._client = (url, _client(url, self._cluster.headers))
            return self._client[1]


def _entrypoint(argv: Sequence[str]) -> str:
    """A command for the shell that Ray hands it to: quoted, and taking the shell's place, so that signals find it.

    A job that reserves no core is given one thread by Ray; drivers are to have as many as they would by hand.
    """
    threads = "" if "OMP_NUM_THREADS" in os.environ else "env -u OMP_NUM_THREADS "
    return f"exec {threads}{shlex.join(argv)}"


def _client(url: str, headers: Mapping[str, str]) -> Any:
    from ray.job_submission import JobSubmissionClient  # takes a second to load

    class PatientClient(JobSubmissionClient):  # type: ignore[misc]
        """One that gives up, and takes a job that is not there for no error."""

        def _do_request(self, *args: Any, **kwargs: Any) -> Any:
            """Every request goes through this method, and its keywords to `requests`."""
            return super()._do_request(*args, **{"timeout": _ANSWER_S, **kwargs})

        def status(self, job: str) -> str | None:
            """Ray's word for where a job stands; None where it is not known."""
            answer = self._do_request("GET", f"/api/jobs/{job}")
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            if answer.status_code != HTTPStatus.OK:
                self._raise_error(answer)
            return str(answer.json()["status"])

    return PatientClient(url, headers=dict(headers))
