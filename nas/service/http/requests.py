"""What every request passes through: checks before it, and an id, headers, a log line and metrics of its response."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.errors import NasError, StoreError
from nas.service.audit import AuditLog
from nas.service.http.access import STRANGER, Access, RateLimit, network_of
from nas.service.http.body_limits import length_rejection, limited_body
from nas.service.http.edited_responses import Edit, EditedResponse
from nas.service.http.metrics import PREFIX, Metrics
from nas.service.http.permissions import right_of
from nas.service.http.problems import make_problem, problem_of, response_of
from nas.service.http.root_path import RootPath
from nas.service.http.security import HEADERS, OriginCheck
from nas.service.ownership import Ownership
from nas.service.path_privacy import PathPrivacy
from nas.service.people import Caller, acting_as
from nas.service.settings import ServiceSettings

_REFUSALS_PER_MINUTE = 6
"""Entries of the audit log about refused tokens from one address: attempts must not push other entries out of it."""
_FAILURES_PER_MINUTE = 60
"""Entries of the audit log about what failed or was denied to one person, for the same reason."""
_MADE = (HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}

logger = logging.getLogger(__name__)


class RequestMiddleware:
    """The middleware of the application.

    A request is rejected by its host and origin, its token, the rate of its client, the size of its body, or a right that
    its sender lacks. An internal error is logged with the request's id; the response has only this id.

    Args:
        holder: see `Access`.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServiceSettings,
        holder: Callable[[str], Caller | None],
        metrics: Metrics,
        owners: Ownership,
        audit: AuditLog,
    ) -> None:
        self._app, self._limits, self._metrics, self._owners = app, settings.limits, metrics, owners
        self._audit = audit
        self._refusals, self._failures = RateLimit(_REFUSALS_PER_MINUTE), RateLimit(_FAILURES_PER_MINUTE)
        self._hide_paths = PathPrivacy(settings)
        self._origins, self._access = OriginCheck(settings), Access(settings, holder)
        self._root = RootPath(settings.root_path)
        self._edits = (_Private(settings), self._root)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        self._root.enter(scope)
        state, method = scope.setdefault("state", {}), scope["method"]
        state["request_id"] = name = secrets.token_hex(8)
        begun = time.perf_counter()
        answer = _Answer(send, name, is_head=method == "HEAD", still_allowed=lambda: self._access.still_holds(scope))
        if method == "HEAD":  # as GET without the body (RFC 9110, 9.3.2)
            scope["method"] = "GET"
        try:
            await self._answer(scope, receive, EditedResponse(answer, self._edits))
        except ClientDisconnect:
            answer.status = answer.status or 499
        except Exception:
            logger.exception("a request failed", extra={"request": name, "path": scope["path"]})
            if answer.status:
                raise  # the response has begun, and must not seem complete
            detail = f"internal error; the server's log has details under the request {name}"
            await response_of(make_problem(500, detail, instance=scope["path"]))(scope, receive, answer)
        finally:
            scope["method"] = method
            self._record(scope, answer.status, time.perf_counter() - begun)
            await run_in_threadpool(self._record_change, scope, answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        rejection = (
            self._origins.rejection(scope) or self._access.rejection(scope) or length_rejection(scope, self._limits)
        )
        if rejection is not None:
            await rejection(scope, receive, send)
            return
        caller: Caller = scope["state"]["caller"]
        with acting_as(caller):
            denial = await self._denial(scope, caller)
            answer = self._app if denial is None else denial
            await answer(scope, limited_body(scope, receive, self._limits), send)

    async def _denial(self, scope: Scope, caller: Caller) -> Response | None:
        """The response to a request that its sender has no right to; None for any other. Before the body is read."""
        right = right_of(scope["method"], scope["path"])
        try:
            await run_in_threadpool(self._owners.check, caller, right)
        except NasError as error:
            return response_of(problem_of(error, self._hide_paths, instance=scope["path"]), scope=scope)
        return None

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", ""))
        if route and scope["path"].startswith(PREFIX) and not route.startswith(PREFIX):
            route = PREFIX + route  # the framework gives it without
        self._metrics.answered(scope["method"], route, status, seconds)
        state, fields = scope["state"], {"method": scope["method"], "path": scope["path"], "status": status}
        fields |= {"request": state["request_id"], "ms": round(1000 * seconds, 1), "token": state.get("token", "")}
        if (run := scope.get("path_params", {}).get("run")) is not None:
            fields["run"] = run
        logger.info("request", extra=fields)

    def _record_change(self, scope: Scope, answer: _Answer) -> None:
        """Writes a request that is a change, or whose token was refused, into the audit log."""
        right, state, status = right_of(scope["method"], scope["path"]), scope["state"], answer.status
        action = "sign in" if status == HTTPStatus.UNAUTHORIZED else right.action
        if not action or "caller" not in state:
            return  # it changes nothing, or another site's page sent it
        caller, address = state["caller"], str((scope.get("client") or ("",))[0])
        is_denied = state.get("is_refused", False) or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        is_stranger = caller is STRANGER
        outcome = "denied" if is_denied else "done" if status < HTTPStatus.BAD_REQUEST else "failed"
        if outcome != "done":
            limit, client = (self._refusals, network_of(address)) if is_stranger else (self._failures, caller.name)
            if not limit.allows(client):
                return
        thing = unquote(answer.location.rpartition("/")[2]) if status in _MADE else ""
        thing = thing or ("" if right.thing is None else right.thing.name)
        role, request = "" if is_stranger else str(caller.role), state["request_id"]
        try:
            self._audit.record(
                caller.name, role, action, thing, outcome, status=status, address=address, request=request
            )
        except StoreError as error:
            logger.error("%s", error, extra={"request": request, "path": scope["path"]})


class _Private(Edit):
    """Removes the server's paths and database URLs, wherever drivers and libraries have written them."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._hide = PathPrivacy(settings, data=False)  # job files name data below the data folders

    def text(self, text: str, media_type: str) -> str:
        return self._hide(text)


class _Answer:
    """Sends the response to a request: with its id and the security headers, and without a body where the request is HEAD.

    Args:
        name: the id of the request.
        still_allowed: whether its token is valid now; if not, a stream of events ends.

    Attributes:
        status: of the response; 0 until it has begun.
        location: the address of what the request made; "" where there is none.
    """

    def __init__(self, send: Send, name: str, *, is_head: bool, still_allowed: Callable[[], bool]) -> None:
        self._send, self._name, self._is_head, self._still_allowed = send, name, is_head, still_allowed
        self._is_stream = False
        self.status, self.location = 0, ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._is_head:
            if self._is_stream:  # it would last as long as the run
                raise ClientDisconnect
        elif self._is_stream and not self._still_allowed():
            await self._send(_END)
            raise ClientDisconnect
        else:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        self.status = message["status"]
        headers = MutableHeaders(scope=message)
        self.location = headers.get("location", "")
        headers["X-Request-Id"] = self._name
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        self._is_stream = headers.get("content-type", "").startswith("text/event-stream")
        await self._send(message)
        if self._is_head:
            await self._send(_END)
