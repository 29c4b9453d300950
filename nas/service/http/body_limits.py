"""Limits the size and the duration of request bodies while they are read, independent of their headers."""

from __future__ import annotations

import asyncio
import re
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.service.http.problems import make_problem, response_of
from nas.service.settings import Limits

_UPLOADS = re.compile(r"/api/v1/(data|models|profiles/[^/]+/measurements)")
_JOBS = re.compile(r"/api/v1/(runs|jobs/(check|edit|plans))")
_FORM_BYTES = 64 * 1024
"""The parts of a form around an uploaded file."""
_CLOSE = {"Connection": "close"}
"""The rest of a rejected body would be parsed as the next request."""
_LENGTH = re.compile(r"[0-9]{1,18}")


class BodyLimits:
    """Rejects bodies that are too large (413), arrive too slowly (408) or whose length is no number (400)."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        max_bytes = self._max_bytes(scope)
        too_large = f"the request's body is larger than the limit of {max_bytes} bytes"
        length = Headers(scope=scope).get("content-length")
        if length is not None and _LENGTH.fullmatch(length) is None:
            return await self._reject(400, "the content-length is not a number", scope, receive, send)
        if length is not None and int(length) > max_bytes:
            return await self._reject(413, too_large, scope, receive, send)
        n_bytes, waited, complete = 0, 0.0, False

        async def bounded() -> Message:
            nonlocal n_bytes, waited, complete
            if complete:  # the next message is the end of the connection, at any later time
                return await receive()
            # A client that sends a byte now and then must not hold the request for days.
            left, begun = self._limits.body_s + n_bytes / self._limits.bytes_per_s - waited, time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), left)
            except TimeoutError:
                text = f"the request's body was not received in time, at {self._limits.bytes_per_s} bytes per second or more"
                raise HTTPException(408, text, _CLOSE) from None
            waited += time.monotonic() - begun
            if message["type"] == "http.request":
                n_bytes += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if n_bytes > max_bytes:
                    raise HTTPException(413, too_large, _CLOSE)
            return message

        return await self._app(scope, bounded, send)

    def _max_bytes(self, scope: Scope) -> int:
        if scope["method"] == "POST" and _UPLOADS.fullmatch(scope["path"]):
            return self._limits.upload_bytes + _FORM_BYTES
        if scope["method"] == "POST" and _JOBS.fullmatch(scope["path"]):
            return self._limits.body_bytes
        return self._limits.small_body_bytes

    @staticmethod
    async def _reject(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
        answer = response_of(make_problem(status, detail, instance=scope["path"]), _CLOSE)
        await answer(scope, receive, send)
