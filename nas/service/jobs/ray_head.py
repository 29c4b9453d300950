"""Supervises the server's Ray head in the background: reuses one that still runs, or starts another."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from nas.errors import NasError, ServiceError
from nas.service.background import BackgroundRounds
from nas.service.file_permissions import locked
from nas.service.jobs.job_runner import Cluster, ExternalCluster
from nas.service.jobs.ray_head_process import RayHeadProcess, log_of, this_version
from nas.service.settings import ServiceSettings

_START_S = 120.0
"""Timeout of the start of a head, which takes 5 to 10 s on an idle machine."""
_STUCK_S = 120.0
"""A head that has not started jobs for so long is replaced; its drivers continue on the next one."""
_LOOK_S, _AGAIN_S, _POLL_S = 3.0, 30.0, 0.2
"""Intervals: of checks of a head, of attempts to start one, and of checks of one that starts."""

_LOCK = "ray.lock"
"""The file by which one process at a time starts or ends a head of a folder."""

logger = logging.getLogger(__name__)


class RayHead(BackgroundRounds):
    """A `Cluster` of one node: a detached process that outlives the server. Safe to use from several threads.

    Args:
        folder: The server's own folder, which records its head.
        cpus: Number of CPUs that jobs may reserve; None for all.
        store_bytes: Size of Ray's object store in bytes; None for Ray's own choice.
    """

    def __init__(self, folder: Path, *, cpus: int | None = None, store_bytes: int | None = None) -> None:
        super().__init__("ray-head", retry_s=_AGAIN_S)
        self._folder, self._cpus, self._store_bytes = folder, cpus, store_bytes
        self._ready: RayHeadProcess | None = None
        self._last_answer = 0.0  # of the process that starts jobs
        self._problem = "Ray is starting"

    @property
    def problem(self) -> str:
        """Why no job can run, as far as is known; "" where jobs can run."""
        return self._problem

    def ready(self) -> Cluster:
        """The head that runs now.

        Raises:
            ServiceError: it is starting, or cannot be started.
        """
        ready = self._ready
        if ready is None:
            raise ServiceError(self._problem, code="ray-head.unavailable")
        return ready

    def work(self) -> float:
        """Starts a head, and another one when it is gone; it keeps running when this thread ends."""
        try:
            if self._ready is not None and self._is_stuck(self._ready):
                logger.warning("Ray's head has started no jobs for %.0f s; ending it", _STUCK_S)
                with locked(self._folder / _LOCK):
                    self._ready.end(self._folder)
            if self._ready is None or not self._ready.lives():
                if self._ready is not None:
                    logger.warning("Ray's head is gone; starting another")
                self._ready, self._problem = None, "Ray is starting"
                self._ready = self._ensure()
                self._last_answer = time.monotonic()
                self._problem = "" if self._ready is not None else "the server is closing"
        except (NasError, OSError) as error:
            logger.error("%s", error)
            self._problem = str(error)
            return _AGAIN_S
        return _LOOK_S

    def _is_stuck(self, head: RayHeadProcess) -> bool:
        now = time.monotonic()
        if head.starts_jobs():
            self._last_answer = now
        return now > self._last_answer + _STUCK_S

    def _ensure(self) -> RayHeadProcess | None:
        """A head that answers; None where the server closes before it does.

        Raises:
            ServiceError: it cannot be started.
        """
        with locked(self._folder / _LOCK):
            head = RayHeadProcess.find(self._folder)
            if head is not None and (stale := _stale(head)):
                logger.info("Ray's head %s; ending its remaining processes", stale)
                head.end(self._folder)
                head = None
            if head is None:
                head = RayHeadProcess.start(self._folder, cpus=self._cpus, store_bytes=self._store_bytes)
            deadline = time.monotonic() + _START_S
            while not head.answers():
                if self._closing.wait(_POLL_S):
                    return None
                if not head.lives() or time.monotonic() > deadline:
                    log_text = log_of(self._folder)
                    head.end(self._folder)
                    text = f"Ray's head does not start; it last wrote: {log_text or 'nothing'}"
                    raise ServiceError(text, code="ray-head.unavailable")
            logger.info("Ray answers at %s", head.address)
            return head


def _stale(head: RayHeadProcess) -> str:
    """Why new drivers cannot use a head that was started before; "" where they can."""
    if not head.lives():
        return "is gone"
    return "" if head.version == this_version() else f"is {head.version or 'older'}, and drivers are {this_version()}"


def cluster_of(settings: ServiceSettings) -> RayHead | ExternalCluster:
    """The cluster of a server's jobs, given or a head of its own, which is not started yet."""
    if settings.ray_address is not None and settings.ray_jobs_url is not None:
        return ExternalCluster(settings.ray_address, settings.ray_jobs_url)
    return RayHead(settings.folder)


def end_head(folder: Path) -> bool:
    """Ends the head of a folder's servers with all of its jobs; whether one was running.

    Raises:
        ServiceError: the file that records it is damaged.
    """
    if not folder.is_dir():
        return False
    with locked(folder / _LOCK):
        head = RayHeadProcess.find(folder)
        if head is None:
            return False
        lived = head.lives()
        head.end(folder)
        return lived
