"""Routes for the operation of the server: health, readiness and metrics."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, Response

from nas.engine.store.postgres import check_server
from nas.errors import NasError, StoreError
from nas.service.api import schemas
from nas.service.http.metrics import Metrics
from nas.service.http.problems import Answers, answers
from nas.service.jobs.job_runner import JobRunner
from nas.service.path_privacy import PathPrivacy
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from nas.service.uploads.storage_checks import check_disk_space

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_EXAMPLE = {"schema": {"type": "string"}, "example": 'nas_runs{status="running"} 1.0\n'}
_METRICS: Answers = {200: {"description": "Prometheus' text format.", "content": {"text/plain": _EXAMPLE}}}


def routes(service: Service, metrics: Metrics, hide_paths: PathPrivacy) -> APIRouter:
    """All routes for the server's administrator; `hide_paths` removes the server's paths from what is wrong with a part."""
    router = APIRouter(tags=["operations"])
    installed = version("subnet-nas")

    @router.get("/health", responses=answers())
    async def health() -> schemas.Health:
        """Show that the server answers; needs no token."""
        return schemas.Health(version=installed)

    not_ready: Answers = {503: {"description": "Jobs cannot be run now.", "model": schemas.Readiness}}

    @router.get("/ready", responses={**answers(), **not_ready})
    def ready(response: Response) -> schemas.Readiness:
        """Show whether jobs can be run now, by part."""
        report = readiness(service.settings, service.state, service.jobs)
        if not report.ready:
            response.status_code = 503
        return report.model_copy(update={"parts": {part: hide_paths(text) for part, text in report.parts.items()}})

    @router.get("/metrics", response_class=Response, responses={**_METRICS, **answers()})
    def show_metrics() -> Response:
        """Show the server's metrics for Prometheus."""
        return Response(metrics.text(), media_type=_TEXT)

    return router


def readiness(settings: ServiceSettings, state: ServiceState, runner: JobRunner) -> schemas.Readiness:
    """The results of checks of the runs folder, the database server of runs, the service's database and the job runner."""
    store = settings.store
    parts = {
        "runs": _result(lambda: _check_folder(settings.runs.root)),
        **({} if store is None else {"store": _result(lambda: check_server(store))}),
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
