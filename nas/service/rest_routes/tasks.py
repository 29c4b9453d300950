"""Routes of tasks: the exports and measurements of all runs and profiles."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from nas.service.api import schemas
from nas.service.http.problems import answers
from nas.service.service import Service

TaskId = Annotated[
    str,
    Path(
        alias="task", description="The id of an export or a measurement.", examples=["export-0f3a5c7e"], max_length=200
    ),
]


def routes(service: Service) -> APIRouter:
    """All routes of tasks."""
    router = APIRouter(tags=["tasks"])

    @router.get("/tasks", responses=answers())
    def list_tasks(
        kind: Annotated[schemas.TaskKindName | None, Query(description="Only tasks of this kind.")] = None,
        status: Annotated[schemas.TaskStatusName | None, Query(description="Only tasks of this status.")] = None,
    ) -> tuple[schemas.Task, ...]:
        """List the exports and measurements of all runs and profiles, the newest first."""
        return service.tasks.all(kind, status)

    @router.post("/tasks/{task}/cancel", responses=answers(404, 409))
    def cancel_task(task: TaskId) -> schemas.Task:
        """Cancel an export or a measurement; one that runs ends some seconds later."""
        return service.tasks.cancel(task)

    return router
