"""Routes of people: who sends the request, and the audit log of what people did."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from nas.service.api import schemas
from nas.service.audit import AuditLog
from nas.service.http.problems import Answers, answers
from nas.service.people import current_caller

_LINE = {"schema": {"type": "string"}, "example": '{"time":1768478400.0,"who":"alice","action":"cancel run",…}\n'}
_LINES: Answers = {200: {"description": "One entry a line.", "content": {"application/jsonl": _LINE}}}


def routes(audit: AuditLog) -> APIRouter:
    """All routes of people."""
    router = APIRouter(tags=["people"])

    @router.get("/me", responses=answers())
    def show_me() -> schemas.Person:
        """Show the name and the role of the token that the request is sent with."""
        caller = current_caller()
        return schemas.Person.model_validate({"name": caller.name, "role": str(caller.role)})

    @router.get("/audit", responses=answers())
    def list_audit(query: Annotated[schemas.AuditQuery, Query()]) -> schemas.AuditPage:
        """List who did what to which thing, the newest first; for administrators."""
        return audit.page(query)

    @router.get("/audit.jsonl", response_class=StreamingResponse, responses={**_LINES, **answers()})
    def audit_lines() -> StreamingResponse:
        """Download the audit log as lines of JSON, the oldest first; for administrators."""
        headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"', "Cache-Control": "no-store"}
        return StreamingResponse(audit.lines(), media_type="application/jsonl", headers=headers)

    return router
