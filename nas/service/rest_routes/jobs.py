"""Routes of jobs before they are runs: check, edit, plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from nas.jobs.schema.job_schema import SCHEMA_TITLE, job_schema
from nas.jobs.schema.strict_yaml import parse_mapping
from nas.service.api import schemas
from nas.service.http.concurrency_limit import ConcurrencyLimit
from nas.service.http.problems import answers
from nas.service.path_privacy import PathPrivacy
from nas.service.service import Service
from nas.service.views.jobs import edited

PlanId = Annotated[str, Path(alias="plan", description="A plan's id.", examples=["plan-0f3a5c7e"], max_length=200)]
_YAML = ("application/yaml", "application/x-yaml", "text/yaml")
_EXAMPLE_YAML = "name: digits-cnn\ndata: {name: digits}\nsupernet: {preset: digits}\nsearch: {evaluations: 60}\n"
_EXAMPLE_JOB = parse_mapping(_EXAMPLE_YAML, source="example", noun="job")
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A submission as JSON; or the job file itself, with `kind`, `hardware` and `priority` as parameters.",
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/JobSubmission"},
                "examples": {
                    "object": {"summary": "The job as an object", "value": {"job": _EXAMPLE_JOB, "kind": "search"}},
                    "text": {
                        "summary": "The text of a job file",
                        "value": {"job": _EXAMPLE_YAML, "hardware": ["cpu-1-thread"]},
                    },
                },
            },
            "application/yaml": {"schema": {"type": "string"}, "example": _EXAMPLE_YAML},
        },
    }
}

_EDIT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobEdit"}}},
    }
}
_SCHEMA: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": {"title": SCHEMA_TITLE, "type": "object", "required": ["name"]}}}}
}
_SchemaT = TypeVar("_SchemaT", bound=schemas.Schema)


def routes(service: Service, parsing: ConcurrencyLimit, hide_paths: PathPrivacy) -> APIRouter:
    """All routes of jobs.

    Args:
        parsing: Limit of the jobs that are parsed at once.
        hide_paths: Removes the paths of the server from what is wrong with them.
    """
    router = APIRouter(tags=["jobs"])

    @router.post("/jobs/check", openapi_extra=BODY, responses=answers(413, 415))
    async def check_job(request: Request, job: Annotated[JobRequest, Depends(job_request)]) -> schemas.JobCheck:
        """Check a job without submitting it; errors are listed by field."""
        check = await parsing.run(request, lambda: service.submissions.check(job.submission()))
        errors = [error.model_copy(update={"message": hide_paths(error.message)}) for error in check.errors]
        return check.model_copy(update={"errors": tuple(errors)})

    @router.post("/jobs/edit", openapi_extra=_EDIT, responses=answers(413, 415))
    async def edit_job(request: Request, job: Annotated[JobRequest, Depends(job_request)]) -> schemas.EditedJob:
        """Change values in the text of a job file; comments stay."""
        return await parsing.run(request, lambda: edited(job.parsed(schemas.JobEdit)))

    @router.post("/jobs/plans", status_code=202, openapi_extra=BODY, responses=answers(413, 415))
    async def plan_job(
        request: Request, response: Response, job: Annotated[JobRequest, Depends(job_request)]
    ) -> schemas.JobPlan:
        """Estimate the size, the costs and the time of a job without submitting it."""
        plan = await parsing.run(request, lambda: service.plans.request(job.submission()))
        response.headers["Location"] = f"/api/v1/jobs/plans/{plan.plan}"
        return plan

    @router.get("/jobs/schema", responses={**answers(), **_SCHEMA})
    def show_job_schema() -> dict[str, Any]:
        """Get the JSON schema of job files, which editors complete and check them by."""
        return job_schema()

    @router.get("/jobs/plans/{plan}", responses=answers(404))
    def show_plan(plan: PlanId) -> schemas.JobPlan:
        """Show the status of a plan, and its result."""
        return service.plans.get(plan)

    return router


@dataclass(frozen=True, slots=True)
class JobRequest:
    """The body of a submission, not parsed yet, and its parameters."""

    body: bytes
    content_type: str
    kind: schemas.RunKind
    hardware: tuple[str, ...] | None
    priority: schemas.PriorityName

    def submission(self) -> schemas.JobSubmission:
        """The submission.

        Raises:
            RequestValidationError: it is invalid.
            HTTPException: it has another media type.
        """
        if self.content_type not in _YAML:
            return self.parsed(schemas.JobSubmission, f"application/json or {_YAML[0]}")
        try:
            text = self.body.decode("utf-8-sig")
        except UnicodeDecodeError:
            errors: list[Any] = [{"loc": ("body",), "msg": "is not UTF-8 text", "type": "unicode"}]
            raise RequestValidationError(errors) from None
        with _reported():
            return schemas.JobSubmission(job=text, kind=self.kind, hardware=self.hardware, priority=self.priority)

    def parsed(self, model: type[_SchemaT], expected: str = "application/json") -> _SchemaT:
        """The body as JSON; raises as `submission`."""
        if self.content_type != "application/json":
            came = self.content_type[:80] or "no content-type"
            raise HTTPException(415, f"expected {expected}, got {came}")
        with _reported():
            return model.model_validate_json(self.body)


@contextmanager
def _reported() -> Iterator[None]:
    """Raises errors of a schema as those of a request's body."""
    try:
        yield
    except ValidationError as error:
        errors = [{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_url=False, include_input=False)]
        raise RequestValidationError(errors) from None


async def job_request(
    request: Request,
    kind: Annotated[schemas.RunKind, Query(description="For a plain job file.")] = "search",
    hardware: Annotated[
        list[str] | None, Query(max_length=16, description="For a plain job file: profiles in place of its own.")
    ] = None,
    priority: Annotated[schemas.PriorityName, Query(description="For a plain job file.")] = "normal",
) -> JobRequest:
    """The body of a request and its parameters."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return JobRequest(await request.body(), content_type, kind, None if hardware is None else tuple(hardware), priority)
