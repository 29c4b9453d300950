"""Parses the body of a submission: JSON, or a plain job file."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from nas.api.schemas import JobSubmission, RunKind
from nas.config.strict_yaml import parse_mapping

YAML = ("application/yaml", "application/x-yaml", "text/yaml")
_EXAMPLE_YAML = "name: digits-cnn\ndata: {name: digits}\nsupernet: {preset: digits}\nsearch: {evaluations: 60}\n"
_EXAMPLE_JOB = parse_mapping(_EXAMPLE_YAML, source="example", what="job")
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A submission as JSON; or the job file itself, with `kind` and `hardware` as parameters.",
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
"""The description of such a body."""


async def submitted(
    request: Request,
    kind: Annotated[RunKind, Query(description="For a plain job file.")] = "search",
    hardware: Annotated[
        list[str] | None,
        Query(max_length=16, description="For a plain job file: profiles in place of its own."),
    ] = None,
) -> JobSubmission:
    """The submission in a request.

    Raises:
        RequestValidationError: it is invalid.
        HTTPException: it has another media type.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    try:
        if content_type in YAML:
            text = body.decode("utf-8-sig")
            return JobSubmission(job=text, kind=kind, hardware=None if hardware is None else tuple(hardware))
        if content_type == "application/json":
            return JobSubmission.model_validate_json(body)
    except UnicodeDecodeError:
        found: list[Any] = [{"loc": ("body",), "msg": "is not UTF-8 text", "type": "unicode"}]
        raise RequestValidationError(found) from None
    except ValidationError as error:
        found = [{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_url=False, include_input=False)]
        raise RequestValidationError(found) from None
    raise HTTPException(415, f"expected application/json or {YAML[0]}, got {content_type[:80] or 'no content-type'}")
