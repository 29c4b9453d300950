"""Routes of what tasks make of runs (exports, artifacts) and its files, and of the tasks of all runs and profiles."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import FileResponse, Response, StreamingResponse

from nas.service.api import schemas
from nas.service.http.problems import Answers, answers
from nas.service.rest_routes.archives import ZIP, zipped
from nas.service.rest_routes.parameters import RunId
from nas.service.run_tasks import RunTasks
from nas.service.service import Service

TaskId = Annotated[str, Path(alias="task", description="A task's id.", examples=["export-0f3a5c7e"], max_length=200)]
_FILE: Answers = {200: {"description": "The file.", "content": {"application/octet-stream": {}}}}


def routes(service: Service) -> APIRouter:
    """All routes of exports, artifacts and tasks."""
    router = APIRouter()

    @router.post("/runs/{run}/exports", tags=["exports"], status_code=202, responses=answers(404, 409, 413))
    def export_network(run: RunId, request: schemas.ExportRequest, response: Response) -> schemas.Export:
        """Export a measured network, verified: as ONNX with a script that runs it, or in another library's format."""
        export = service.exports.request(run, request)
        response.headers["Location"] = f"/api/v1/runs/{run}/exports/{export.export}"
        return export

    examples = ("0f3a5c7e", "digits-1-0f3a5c7e.onnx")
    router.include_router(_product_routes(service.exports, schemas.Export, examples, shown="and its files"))

    @router.post("/runs/{run}/artifacts", tags=["artifacts"], status_code=202, responses=answers(404, 409, 413))
    def make_artifact(run: RunId, request: schemas.ArtifactRequest) -> schemas.Artifact:
        """Make cascades, plots or a lookup table of latencies of a run."""
        return service.artifacts.request(run, request)

    examples, shown = ("plots-0f3a5c7e", "front.png"), "its files and its result"
    router.include_router(_product_routes(service.artifacts, schemas.Artifact, examples, shown=shown))

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


def _product_routes(
    products: RunTasks[Any], model: type[schemas.Schema], examples: tuple[str, str], *, shown: str
) -> APIRouter:
    """The routes that list, show, delete and download the exports or the artifacts of a run.

    Args:
        model: Schema of one.
        examples: An id and a file's name.
        shown: What is shown of one beside its status.
    """
    noun = products.noun
    router, address = APIRouter(tags=[f"{noun}s"]), f"/runs/{{run}}/{noun}s"
    id_path = Path(alias=noun, description=f"An {noun}'s id.", examples=[examples[0]], max_length=200)
    file_path = Path(description=f"One of the {noun}'s files.", examples=[examples[1]], max_length=200)

    @router.get(
        address,
        name=f"list_{noun}s",
        description=f"List the {noun}s of a run, the oldest first.",
        response_model=tuple[model, ...],  # type: ignore[valid-type]  # one of two
        responses=answers(404),
    )
    def list_products(run: RunId) -> Any:
        return products.list(run)

    address = f"{address}/{{{noun}}}"

    @router.get(
        address,
        name=f"show_{noun}",
        description=f"Show the status of an {noun}, {shown}.",
        response_model=model,
        responses=answers(404),
    )
    def show_product(run: RunId, product: str = id_path) -> Any:
        return products.get(run, product)

    @router.delete(
        address,
        name=f"delete_{noun}",
        description=f"Delete an {noun} that has ended, with its files.",
        status_code=204,
        responses=answers(404, 409),
    )
    def delete_product(run: RunId, product: str = id_path) -> None:
        products.delete(run, product)

    @router.get(
        f"{address}/files/{{name}}",
        name=f"{noun}_file",
        description=f"Download one file of a finished {noun}.",
        response_class=FileResponse,
        responses={**_FILE, **answers(404)},
    )
    def product_file(run: RunId, product: str = id_path, name: str = file_path) -> Response:
        path = products.file(run, product, name)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @router.get(
        f"{address}/archive",
        name=f"{noun}_archive",
        description=f"Download all files of a finished {noun} as one zip archive.",
        response_class=StreamingResponse,
        responses={**ZIP, **answers(404, 409)},
    )
    def product_archive(run: RunId, product: str = id_path) -> Response:
        files = products.files(run, product)
        names = [path.parent.name for path in files.values() if path.parent.name != product]  # of an exported folder
        names += [PurePath(file).stem for file in files if file.endswith(".onnx")] if noun == "export" else []
        return zipped(files, names[0] if names else f"{run}-{product}")

    return router
