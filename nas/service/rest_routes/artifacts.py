"""Routes of the artifacts of runs (cascades, plots, lookup tables) and of fine-tuning."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import FileResponse, Response, StreamingResponse

from nas.errors import RunStateError
from nas.service.api import schemas
from nas.service.http.problems import Answers, answers
from nas.service.rest_routes.archives import ZIP, zipped
from nas.service.rest_routes.parameters import RunId, client_name
from nas.service.service import Service

ArtifactId = Annotated[
    str, Path(alias="artifact", description="An artifact's id.", examples=["plots-0f3a5c7e"], max_length=200)
]
FileName = Annotated[str, Path(description="One of the artifact's files.", examples=["front.png"], max_length=200)]
_FILE: Answers = {200: {"description": "The file.", "content": {"application/octet-stream": {}}}}


def routes(service: Service) -> APIRouter:
    """All routes of artifacts and of fine-tuning."""
    router = APIRouter()

    @router.post("/runs/{run}/finetunings", tags=["runs"], status_code=201, responses=answers(404, 409, 413))
    def finetune_network(request: Request, run: RunId, finetuning: schemas.FinetuningRequest) -> schemas.RunSummary:
        """Fine-tune a network of a search, as a new run in the queue, which measures it again."""
        return service.submissions.finetune(run, finetuning, client_name(request))

    @router.post("/runs/{run}/artifacts", tags=["artifacts"], status_code=202, responses=answers(404, 409, 413))
    def make_artifact(run: RunId, request: schemas.ArtifactRequest) -> schemas.Artifact:
        """Make cascades, plots or a lookup table of latencies of a run."""
        return service.artifacts.request(run, request)

    @router.get("/runs/{run}/artifacts", tags=["artifacts"], responses=answers(404))
    def list_artifacts(run: RunId) -> tuple[schemas.Artifact, ...]:
        """List the artifacts of a run, the oldest first."""
        return service.artifacts.list(run)

    @router.get("/runs/{run}/artifacts/{artifact}", tags=["artifacts"], responses=answers(404))
    def show_artifact(run: RunId, artifact: ArtifactId) -> schemas.Artifact:
        """Show the status of an artifact, its files and its result."""
        return service.artifacts.get(run, artifact)

    @router.delete("/runs/{run}/artifacts/{artifact}", tags=["artifacts"], status_code=204, responses=answers(404, 409))
    def delete_artifact(run: RunId, artifact: ArtifactId) -> None:
        """Delete an artifact that has ended, with its files."""
        service.artifacts.delete(run, artifact)

    @router.get(
        "/runs/{run}/artifacts/{artifact}/files/{name}",
        tags=["artifacts"],
        response_class=FileResponse,
        responses={**_FILE, **answers(404)},
    )
    def artifact_file(run: RunId, artifact: ArtifactId, name: FileName) -> Response:
        """Download one file of a finished artifact."""
        path = service.artifacts.file(run, artifact, name)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @router.get(
        "/runs/{run}/artifacts/{artifact}/archive",
        tags=["artifacts"],
        response_class=StreamingResponse,
        responses={**ZIP, **answers(404, 409)},
    )
    def artifact_archive(run: RunId, artifact: ArtifactId) -> Response:
        """Download all files of a finished artifact as one zip archive."""
        files = service.artifacts.get(run, artifact).files
        if not files:
            raise RunStateError(f"the artifact {artifact!r} has no files", code="export.no-files")
        paths = {info.name: service.artifacts.file(run, artifact, info.name) for info in files}
        return zipped(paths, f"{run}-{artifact}")

    return router
