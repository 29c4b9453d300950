"""Routes of runs (submit, list, watch, label, cancel, resume, delete), and of the queue of those that wait."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from nas.service.api import schemas
from nas.service.http.concurrency_limit import ConcurrencyLimit
from nas.service.http.problems import Answers, answers
from nas.service.rest_routes.archives import ZIP, zipped
from nas.service.rest_routes.jobs import BODY, JobRequest, job_request
from nas.service.rest_routes.parameters import RunId, client_name
from nas.service.run_files import run_files
from nas.service.service import Service
from nas.service.views.event_stream import EventStreams

_EVENT = {
    "type": "object",
    "properties": {
        "data": {"type": "string", "description": "A `RunSummary` as JSON.", "contentMediaType": "application/json"},
        "id": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
}
_EXAMPLE = 'retry: 2000\n\nid: 0f3a5c7e\ndata: {"run": "digits-cnn-1", "status": "running", …}\n\n'
_TEXT = {"schema": {"type": "string"}, "example": "training, epoch: 3 of 12\n"}
_LOGS: Answers = {200: {"description": "Text.", "content": {"text/plain": _TEXT}}}
_EVENTS = {"itemSchema": _EVENT, "example": _EXAMPLE}  # the keyword of OpenAPI 3.2 for the items of a stream
_STREAM: Answers = {
    200: {
        "description": "Server-sent events. The data of each is a `RunSummary`; the stream ends with the run.",
        "content": {"text/event-stream": _EVENTS},
    }
}


def routes(service: Service, streams: EventStreams, parsing: ConcurrencyLimit) -> APIRouter:
    """All routes of runs.

    Args:
        parsing: Limit of the submissions that are parsed at once.
    """
    router, queue = APIRouter(tags=["runs"]), APIRouter(tags=["queue"])

    @router.post("/runs", status_code=201, openapi_extra=BODY, responses=answers(413, 415))
    async def submit_job(
        request: Request, response: Response, job: Annotated[JobRequest, Depends(job_request)]
    ) -> schemas.RunSummary:
        """Submit a job, which is queued as a new run."""
        summary = await parsing.run(request, lambda: service.submissions.submit(job.submission(), client_name(request)))
        response.headers["Location"] = f"/api/v1/runs/{summary.run}"
        return summary

    @router.get("/runs", responses=answers())
    def list_runs(query: Annotated[schemas.RunsQuery, Query()]) -> schemas.RunsPage:
        """List runs."""
        return service.runs.page(query)

    @router.get("/runs/{run}", responses=answers(404))
    def show_run(run: RunId) -> schemas.RunDetail:
        """Show a run: its status, job, objectives, front and events."""
        return service.runs.detail(run)

    @router.delete("/runs/{run}", status_code=204, responses=answers(404, 409))
    def delete_run(run: RunId) -> None:
        """Delete a run that has no driver, with all of its files."""
        service.submissions.delete(run)

    @router.get("/runs/{run}/status", responses=answers(404))
    def run_status(run: RunId) -> schemas.RunSummary:
        """Show the status and progress of a run."""
        return service.runs.summary(run)

    @router.get("/runs/{run}/events", response_class=StreamingResponse, responses={**_STREAM, **answers(404)})
    async def watch_run(run: RunId) -> Response:
        """Stream the status of a run, now and after each change, until it has ended."""
        first = await run_in_threadpool(service.runs.summary, run)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(streams.follow(run, first), media_type="text/event-stream", headers=headers)

    @router.get("/runs/{run}/logs", response_class=PlainTextResponse, responses={**_LOGS, **answers(404)})
    def run_logs(
        run: RunId,
        after: Annotated[int, Query(ge=0, le=2**53, description="Only what follows this many bytes.")] = 0,
    ) -> Response:
        """Show the output of the run's drivers, the oldest first: the last million bytes.

        The header Log-Bytes has the number after which to continue.
        """
        text, end = service.submissions.logs_after(run, after)
        return PlainTextResponse(text.encode(errors="replace"), headers={"Log-Bytes": str(end)})

    @router.get("/runs/{run}/archive", response_class=StreamingResponse, responses={**ZIP, **answers(404)})
    def run_archive(run: RunId) -> Response:
        """Download the files of a run in one zip archive: job, results, log, plots, exports and artifacts."""
        return zipped(run_files(service, run), run)

    @router.put("/runs/{run}/labels", responses=answers(404, 413))
    def label_run(run: RunId, labels: schemas.RunLabels) -> schemas.RunSummary:
        """Replace the tags and the note of a run."""
        return service.submissions.label(run, labels)

    @router.post("/runs/{run}/cancel", responses=answers(404, 409))
    def cancel_run(run: RunId) -> schemas.RunSummary:
        """Cancel a run; its results stay, and it can be resumed."""
        return service.submissions.cancel(run)

    @router.post("/runs/{run}/resume", responses=answers(404, 409, 413))
    def resume_run(request: Request, run: RunId, budget: schemas.ResumeRequest | None = None) -> schemas.RunSummary:
        """Queue a run again that has ended; a finished one with a larger budget, or to retry what failed."""
        return service.submissions.resume(run, budget or schemas.ResumeRequest(), client_name(request))

    @router.post("/runs/{run}/finetunings", status_code=201, responses=answers(404, 409, 413))
    def finetune_network(request: Request, run: RunId, finetuning: schemas.FinetuningRequest) -> schemas.RunSummary:
        """Fine-tune a network of a search, as a new run in the queue, which measures it again."""
        return service.submissions.finetune(run, finetuning, client_name(request))

    @queue.get("/queue", responses=answers())
    def show_queue() -> schemas.Queue:
        """Show the runs that run and wait, in the order in which they start, with expected starts."""
        return service.runs.queue()

    @queue.put("/runs/{run}/queue", responses=answers(404, 409, 413))
    def change_queue(run: RunId, change: schemas.QueueChange) -> schemas.RunSummary:
        """Change the priority of a run, or its position while it waits; for administrators, but for a lower priority."""
        return service.submissions.reorder(run, change)

    all_routes = APIRouter()
    all_routes.include_router(router)
    all_routes.include_router(queue)
    return all_routes
