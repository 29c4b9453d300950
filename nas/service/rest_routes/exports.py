"""Routes of exports and their files, and of the tasks of all runs and profiles."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import FileResponse, Response, StreamingResponse

from nas.errors import RunStateError
from nas.service.api import schemas
from nas.service.http.problems import Answers, answers
from nas.service.rest_routes.archives import ZIP, zipped
from nas.service.rest_routes.parameters import RunId
from nas.service.service import Service

ExportId = Annotated[str, Path(alias="export", description="An export's id.", examples=["0f3a5c7e"], max_length=200)]
FileName = Annotated[
    str, Path(description="One of the export's files.", examples=["digits-1-0f3a5c7e.onnx"], max_length=200)
]
TaskId = Annotated[str, Path(alias="task", description="A task's id.", examples=["export-0f3a5c7e"], max_length=200)]
_FILE: Answers = {200: {"description": "The file.", "content": {"application/octet-stream": {}}}}


def routes(service: Service) -> APIRouter:
    """All routes of exports and tasks."""
    router = APIRouter()

    @router.post("/runs/{run}/exports", tags=["exports"], status_code=202, responses=answers(404, 409, 413))
    def export_network(run: RunId, request: schemas.ExportRequest, response: Response) -> schemas.Export:
        """Export a measured network as verified ONNX, with its manifest, its weights and a script that runs it."""
        export = service.exports.request(run, request)
        response.headers["Location"] = f"/api/v1/runs/{run}/exports/{export.export}"
        return export

    @router.get("/runs/{run}/exports", tags=["exports"], responses=answers(404))
    def list_exports(run: RunId) -> tuple[schemas.Export, ...]:
        """List the exports of a run, the oldest first."""
        return service.exports.list(run)

    @router.get("/runs/{run}/exports/{export}", tags=["exports"], responses=answers(404))
    def show_export(run: RunId, export: ExportId) -> schemas.Export:
        """Show the status of an export, and its files."""
        return service.exports.get(run, export)

    @router.delete("/runs/{run}/exports/{export}", tags=["exports"], status_code=204, responses=answers(404, 409))
    def delete_export(run: RunId, export: ExportId) -> None:
        """Delete an export that has ended, with its files."""
        service.exports.delete(run, export)

    @router.get(
        "/runs/{run}/exports/{export}/files/{name}",
        tags=["exports"],
        response_class=FileResponse,
        responses={**_FILE, **answers(404)},
    )
    def export_file(run: RunId, export: ExportId, name: FileName) -> Response:
        """Download one file of a finished export."""
        path = service.exports.file(run, export, name)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @router.get(
        "/runs/{run}/exports/{export}/archive",
        tags=["exports"],
        response_class=StreamingResponse,
        responses={**ZIP, **answers(404, 409)},
    )
    def export_archive(run: RunId, export: ExportId) -> Response:
        """Download all files of a finished export as one zip archive."""
        export_info = service.exports.get(run, export)
        if not export_info.files:
            raise RunStateError(
                f"the export {export!r} is {export_info.status} and has no files", code="export.no-files"
            )
        name = next(
            (PurePath(info.name).stem for info in export_info.files if info.name.endswith(".onnx")), f"{run}-{export}"
        )
        return zipped({info.name: service.exports.file(run, export, info.name) for info in export_info.files}, name)

    @router.get("/tasks", tags=["tasks"], responses=answers())
    def list_tasks(
        kind: Annotated[schemas.TaskKindName | None, Query(description="Only tasks of this kind.")] = None,
        status: Annotated[schemas.TaskStatusName | None, Query(description="Only tasks of this status.")] = None,
    ) -> tuple[schemas.Task, ...]:
        """List the exports, artifacts, measurements and plans of all runs and profiles, the newest first."""
        return service.tasks.all(kind, status)

    @router.post("/tasks/{task}/cancel", tags=["tasks"], responses=answers(404, 409))
    def cancel_task(task: TaskId) -> schemas.Task:
        """Cancel a task; one that runs ends some seconds later."""
        return service.tasks.cancel(task)

    return router
