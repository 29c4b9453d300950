"""Jobs of a Ray cluster: processes that outlive whoever asked for them."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nas.errors import ServiceError
from nas.service.cluster import Cluster
from nas.service.jobs import JobState

_ANSWER_S = (5.0, 30.0)
"""For the job server to be connected, and to answer; Ray's own client would wait for ever."""
_STATES = {"PENDING": JobState.PENDING, "RUNNING": JobState.RUNNING}
"""All others are ends."""
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
                if job not in self.states():
                    raise

    def states(self) -> Mapping[str, JobState]:
        with self._asking() as client:
            found = [(job.submission_id, str(job.status.value)) for job in client.list_jobs()]
        # Drivers that joined the cluster by themselves have no such id.
        return {job: _STATES.get(status, JobState.ENDED) for job, status in found if job}

    def stop(self, job: str) -> None:
        with self._asking() as client:
            try:
                client.stop_job(job)
            except RuntimeError:
                if self.states().get(job, JobState.ENDED) is not JobState.ENDED:
                    raise

    def logs(self, job: str) -> str:
        with self._asking() as client:
            try:
                lines = str(client.get_job_logs(job)).splitlines(keepends=True)
            except RuntimeError:
                if job in self.states():
                    raise
                return ""
        return "".join(line for line in lines if not any(words in line for words in _RAYS_OWN))

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """A client of the job server; whatever keeps it from answering is a `ServiceError`."""
        try:
            yield self._connected()
        except (RuntimeError, OSError, ValueError) as error:  # requests' errors are OSErrors
            said = " ".join(str(error).split())[:300]
            raise ServiceError(
                f"Ray's job server does not do what it is asked to ({said}); see that Ray runs"
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
        """One that gives up; every request goes through this method, and its keywords to `requests`."""

        def _do_request(self, *args: Any, **kwargs: Any) -> Any:
            return super()._do_request(*args, **{"timeout": _ANSWER_S, **kwargs})

    return PatientClient(url, headers=dict(headers))
