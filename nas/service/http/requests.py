"""Gives every request an id, a log line, an entry in the metrics and a response, also where the server fails."""

from __future__ import annotations

import logging
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.service.http.metrics import PREFIX, Metrics
from nas.service.http.problems import make_problem, response_of

logger = logging.getLogger(__name__)


class RequestLog:
    """The outermost middleware. An internal error is logged with the request's id; the response has only this id."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        state = scope.setdefault("state", {})
        state["request_id"] = name = secrets.token_hex(8)
        begun, status = time.perf_counter(), 0

        async def logged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = name
            await send(message)

        try:
            await self._app(scope, receive, logged)
        except ClientDisconnect:
            status = status or 499
        except Exception:
            logger.exception("a request failed", extra={"request": name, "path": scope["path"]})
            if status:
                raise  # the response has begun, and must not seem complete
            detail = f"internal error; the server's log has details under the request {name}"
            await response_of(make_problem(500, detail, instance=scope["path"]))(scope, receive, logged)
        finally:
            self._record(scope, status, time.perf_counter() - begun)

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


class HeadRequests:
    """Answers HEAD as GET without the body (RFC 9110, 9.3.2); a stream ends before it begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self._app(scope, receive, send)
        is_stream = False

        async def without_body(message: Message) -> None:
            nonlocal is_stream
            if message["type"] == "http.response.start":
                is_stream = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif is_stream:
                raise ClientDisconnect

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, without_body)
        finally:
            scope["method"] = "HEAD"  # for the log
