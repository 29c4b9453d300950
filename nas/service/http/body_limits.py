"""Limits the size and the duration of request bodies while they are read, independent of their headers."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.service.http.problems import make_problem, response_of
from nas.service.settings import Limits

_UPLOADS = re.compile(r"/api/v1/(data|profiles/[^/]+/measurements)")
_FORM_BYTES = 64 * 1024
"""The parts of a form around an uploaded file."""
_LENGTH = re.compile(r"[0-9]{1,18}")
_TIMEOUT_S = 30.0
"""For each piece of a body."""


class BodyLimits:
    """Rejects bodies that are too large (413), arrive too slowly (408) or whose length is no number (400)."""

    def __init__(self, app: ASGIApp, limits: Limits, timeout_s: float = _TIMEOUT_S) -> None:
        self._app, self._limits, self._timeout_s = app, limits, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        most = self._limits.body_bytes
        if scope["method"] == "POST" and _UPLOADS.fullmatch(scope["path"]):
            most = self._limits.upload_bytes + _FORM_BYTES
        too_large = f"the request's body is larger than the limit of {most} bytes"
        length = Headers(scope=scope).get("content-length")
        if length is not None and _LENGTH.fullmatch(length) is None:
            return await self._reject(400, "the content-length is not a number", scope, receive, send)
        if length is not None and int(length) > most:
            return await self._reject(413, too_large, scope, receive, send)
        taken, complete = 0, False

        async def bounded() -> Message:
            nonlocal taken, complete
            if complete:  # the next message is the end of the connection, at any later time
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._timeout_s)
            except TimeoutError:
                raise HTTPException(408, "the request's body was not received in time") from None
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if taken > most:
                    raise HTTPException(413, too_large)
            return message

        return await self._app(scope, bounded, send)

    @staticmethod
    async def _reject(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
        # The rest of the body would be parsed as the next request.
        answer = response_of(make_problem(status, detail, instance=scope["path"]), {"Connection": "close"})
        await answer(scope, receive, send)
