"""Errors as problem details (RFC 9457) or pages: the status of each kind of error, and its code as the type."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from hardware_profiles.errors import ProfilingError
from nas.errors import (
    JobError,
    NasError,
    NotAllowedError,
    Remedy,
    RunHeldError,
    RunStateError,
    ServiceError,
    StoreError,
    TooLargeError,
    TooManyError,
    UnknownNameError,
    remedy_of,
)
from nas.service.api.error_codes import problem_type
from nas.service.api.schemas import FieldProblem, Problem
from nas.service.pages.rendering import page

API = "/api/"
MEDIA_TYPE = "application/problem+json"
_TITLES = {
    403: "Not allowed",
    404: "Not found",
    413: "Too large",
    422: "Not understood",
    429: "Not now",
    503: "Not now",
}
"""Of pages, by status."""
_RETRY_AFTER_S = 5
_ELSEWHERE = frozenset({"objective"})
"""Kinds of names that occur in expressions: an unknown one makes the request wrong, not its address."""
_MAX_ERRORS = 50
_UNROUTED = {
    404: "there is nothing at this address; /api/v1/openapi.json lists the addresses",
    405: "{method} is not allowed at this address; /api/v1/openapi.json lists the methods",
}
_NO_PAGE = "there is no page at this address; it may be mistyped, or what it showed was deleted"
_REQUESTS = {
    "export": "POST /api/v1/runs/{}/exports",
    "resume": "POST /api/v1/runs/{}/resume",
    "runs": "GET /api/v1/runs",
    "show": "GET /api/v1/runs/{}",
}
"""Requests that do the actions of remedies."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

Answers = dict[int | str, dict[str, Any]]
"""Descriptions of a route's responses, by status."""

logger = logging.getLogger(__name__)


def status_of(error: Exception) -> int:
    """The HTTP status of an error of the engine."""
    match error:
        case UnknownNameError():
            return 422 if error.kind in _ELSEWHERE else 404
        case NotAllowedError():
            return 403
        case RunHeldError() | RunStateError():
            return 409
        case TooLargeError():
            return 413
        case TooManyError():
            return 429
        case ServiceError() | StoreError():
            return 503
        case _:
            return 422


def problem_of(error: Exception, hide_paths: Callable[[str], str], *, instance: str = "") -> Problem:
    """An error of the engine as problem details.

    Args:
        hide_paths: removes the paths of the server from a message, see `nas.service.path_privacy`.
        instance: the path of the request.
    """
    fields = error.fields if isinstance(error, JobError) else ()
    errors, code = [(field, hide_paths(text)) for field, text in fields[:_MAX_ERRORS]], str(getattr(error, "code", ""))
    remedy = remedy_of(error)
    request = "" if remedy is None else request_text(remedy)
    detail = hide_paths(str(error)) + (f" ({request})" if request else "")
    return make_problem(status_of(error), detail, code=code, errors=errors, instance=instance)


def request_text(remedy: Remedy) -> str:
    """A remedy as a request of the API, with its options as the body; "" where the API has none."""
    request = _REQUESTS.get(remedy.action, "").format(quote(remedy.target))
    return f"{request} {json.dumps(dict(remedy.options))}" if request and remedy.options else request


def make_problem(
    status: int, detail: str, *, code: str = "", errors: Sequence[tuple[str, str]] = (), instance: str = ""
) -> Problem:
    """Problem details with the status's phrase as their title."""
    return Problem(
        type=problem_type(code),
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=instance,
        errors=tuple(FieldProblem(field=field, message=text) for field, text in errors[:_MAX_ERRORS]),
    )


def response_of(problem: Problem, headers: Mapping[str, str] | None = None, *, scope: Scope | None = None) -> Response:
    """Problem details as a response; in ASCII, since they may quote parts of a request that are no valid text.

    Args:
        scope: of the request, whose response is a page where a browser asks for one; without it, the response is JSON.
    """
    all_headers = {"Cache-Control": "no-store", **(headers or {})}
    if problem.status in (429, 503):
        all_headers.setdefault("Retry-After", str(_RETRY_AFTER_S))
    if scope is None or not wants_page(scope):
        content = json.dumps(problem.model_dump(mode="json"))
        return Response(content, problem.status, headers=all_headers, media_type=MEDIA_TYPE)
    title = _TITLES.get(problem.status, problem.title)
    signed_in = bool(scope.get("state", {}).get("token"))
    answer = page(
        "error.html",
        status=problem.status,
        signs_in=signed_in,
        title=title,
        detail=problem.detail,
        about=problem.type,
    )
    answer.headers.update(all_headers)
    return answer


def error_response(
    scope: Scope, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """The response to a request that is rejected: see `make_problem` and `response_of`."""
    return response_of(make_problem(status, detail, instance=scope["path"], **more), headers, scope=scope)


def wants_page(scope: Scope) -> bool:
    """True if a browser asks for one of the pages; responses of the API are for programs."""
    return not scope["path"].startswith(API) and "text/html" in Headers(scope=scope).get("accept", "")


def add_handlers(app: FastAPI, hide_paths: Callable[[str], str]) -> None:
    """Makes an application answer every error with problem details; `hide_paths` as for `problem_of`."""

    def engine(request: Request, error: Exception) -> Response:
        problem = problem_of(error, hide_paths, instance=request.scope["path"])
        if problem.status >= 500:
            logger.error("%s", error, extra={"request": request_id(request.scope), "path": problem.instance})
        return response_of(problem, scope=request.scope)

    def disk(request: Request, error: Exception) -> Response:
        if not isinstance(error, OSError) or error.errno not in _FULL:
            raise error
        return engine(request, StoreError("the server's disk is full; free space on it", code="disk.full"))

    def framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = str(error.detail)
        if detail == HTTPStatus(error.status_code).phrase:  # the framework's own, which repeats the status
            template = _UNROUTED.get(error.status_code, "{detail}")
            if error.status_code == 404 and wants_page(request.scope):
                template = _NO_PAGE
            detail = template.format(detail=detail, method=request.method)
        return error_response(request.scope, error.status_code, detail, error.headers)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [(_path(entry["loc"]), str(entry["msg"])) for entry in error.errors()]
        detail = "; ".join(f"{field}: {text}" if field else text for field, text in errors[:3])
        return error_response(request.scope, 422, detail, errors=errors)

    app.add_exception_handler(NasError, engine)
    app.add_exception_handler(ProfilingError, engine)
    app.add_exception_handler(OSError, disk)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, invalid)


def request_id(scope: Mapping[str, Any]) -> str:
    """The id of a request in the log; "" outside of a server."""
    return str(scope.get("state", {}).get("request_id", ""))


def answers(*statuses: int) -> Answers:
    """Descriptions of a route's error responses, and of those that every route has."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({400, 401, 403, 422, 429, 503, *statuses})
    }


def _path(loc: Sequence[int | str]) -> str:
    """The path of a field, e.g. ``hardware[0]``, without the part of the request that it is in."""
    text = ""
    for part in loc[1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
