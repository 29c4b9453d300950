"""Routes of the queue: the order of the runs that wait, their expected starts, and changes of it."""

from __future__ import annotations

from fastapi import APIRouter

from nas.service.api import schemas
from nas.service.http.problems import answers
from nas.service.rest_routes.parameters import RunId
from nas.service.service import Service


def routes(service: Service) -> APIRouter:
    """All routes of the queue."""
    router = APIRouter(tags=["queue"])

    @router.get("/queue", responses=answers())
    def show_queue() -> schemas.Queue:
        """Show the runs that run and wait, in the order in which they start, with expected starts."""
        return service.runs.queue()

    @router.put("/runs/{run}/queue", responses=answers(404, 409, 413))
    def change_queue(run: RunId, change: schemas.QueueChange) -> schemas.RunSummary:
        """Change the priority of a run, or its position while it waits; for administrators, but for a lower priority."""
        return service.submissions.reorder(run, change)

    return router
