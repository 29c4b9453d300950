"""Readiness checks: whether jobs can be run now, by part."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from nas.api import schemas
from nas.errors import NasError, StoreError
from nas.service.jobs.job_runner import JobRunner
from nas.service.state import ServiceState
from nas.service.uploads.disk_space import check_disk_space


def readiness(root: Path, state: ServiceState, runner: JobRunner) -> schemas.Readiness:
    """The results of checks of the runs folder, the service's database and the job runner."""
    parts = {
        "runs": _result(lambda: _check_folder(root)),
        "state": _result(state.submissions),
        "jobs": _result(lambda: runner.states(())),
    }
    return schemas.Readiness(ready=all(part == "ok" for part in parts.values()), parts=parts)


def _check_folder(root: Path) -> None:
    if not os.access(root, os.W_OK | os.X_OK):
        raise StoreError("the runs folder cannot be written")
    check_disk_space(root)


def _result(check: Callable[[], object]) -> str:
    try:
        check()
    except NasError as error:
        return str(error)
    return "ok"
