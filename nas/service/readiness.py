"""Readiness checks: whether jobs can be run now, by part."""

from __future__ import annotations

import os
from collections.abc import Callable

from nas.api import schemas
from nas.errors import NasError
from nas.service.jobs.job_runner import JobRunner
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from nas.service.uploads.disk_space import check_disk_space


class Readiness:
    """Checks the runs folder, the service's database and the job runner."""

    def __init__(self, settings: ServiceSettings, state: ServiceState, jobs: JobRunner) -> None:
        self._root, self._state, self._jobs = settings.runs.root, state, jobs

    def now(self) -> schemas.Readiness:
        """The result of all checks."""
        parts = {
            "runs": self._folder(),
            "state": self._tried(self._state.submissions),
            "jobs": self._tried(lambda: self._jobs.states(())),
        }
        return schemas.Readiness(ready=all(part == "ok" for part in parts.values()), parts=parts)

    def _folder(self) -> str:
        if not os.access(self._root, os.W_OK | os.X_OK):
            return "the runs folder cannot be written"
        return self._tried(lambda: check_disk_space(self._root))

    @staticmethod
    def _tried(look: Callable[[], object]) -> str:
        try:
            look()
        except NasError as error:
            return str(error)
        return "ok"
