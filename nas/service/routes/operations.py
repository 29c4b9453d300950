"""Routes for the operation of the server: health, readiness and metrics."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Response

from nas.api import schemas
from nas.service.http.metrics import Metrics
from nas.service.http.problems import Answers, answers
from nas.service.readiness import readiness
from nas.service.service import Service

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


_METRICS = {"schema": {"type": "string"}, "example": 'nas_runs{status="running"} 1.0\n'}


def routes(service: Service, metrics: Metrics) -> APIRouter:
    """All routes for the server's administrator."""
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
        found = readiness(service.settings.runs.root, service.state, service.jobs)
        if not found.ready:
            response.status_code = 503
        return found

    @router.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"description": "Prometheus' text format.", "content": {"text/plain": _METRICS}},
            **answers(),
        },
    )
    def show_metrics() -> Response:
        """Show the server's metrics for Prometheus."""
        return Response(metrics.text(), media_type=_TEXT)

    return router
