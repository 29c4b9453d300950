"""Limits the size and the duration of request bodies while they are read, independent of their headers."""

from __future__ import annotations

import asyncio
import re
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from nas.service.http.problems import error_response
from nas.service.settings import Limits

_UPLOADS = re.compile(r"/api/v1/(data|models|profiles/[^/]+/measurements)")
_JOBS = re.compile(r"/api/v1/(runs|jobs/(check|edit|plans))")
_FORM_BYTES = 64 * 1024
"""The parts of a form around an uploaded file."""
_CLOSE = {"Connection": "close"}
"""The rest of a rejected body would be parsed as the next request."""
_TOO_LARGE = "the request's body is larger than the limit of {} bytes"
_LENGTH = re.compile(r"[0-9]{1,18}")


def length_rejection(scope: Scope, limits: Limits) -> Response | None:
    """The response to a request whose stated length is no number (400) or too large (413); None for any other."""
    length, max_bytes = Headers(scope=scope).get("content-length"), _max_bytes(scope, limits)
    if length is not None and _LENGTH.fullmatch(length) is None:
        return error_response(scope, 400, "the content-length is not a number", _CLOSE)
    if length is not None and int(length) > max_bytes:
        return error_response(scope, 413, _TOO_LARGE.format(max_bytes), _CLOSE)
    return None


def limited_body(scope: Scope, receive: Receive, limits: Limits) -> Receive:
    """Receives the body of a request within its limits.

    Raises:
        HTTPException: it is too large (413), or arrives too slowly (408).
    """
    max_bytes = _max_bytes(scope, limits)
    n_bytes, waited, complete = 0, 0.0, False

    async def receive_within_limits() -> Message:
        nonlocal n_bytes, waited, complete
        if complete:  # the next message is the end of the connection, at any later time
            return await receive()
        # A client that sends a byte now and then must not hold the request for days.
        left, begun = limits.body_s + n_bytes / limits.bytes_per_s - waited, time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), left)
        except TimeoutError:
            text = f"the request's body was not received in time, at {limits.bytes_per_s} bytes per second or more"
            raise HTTPException(408, text, _CLOSE) from None
        waited += time.monotonic() - begun
        if message["type"] == "http.request":
            n_bytes += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if n_bytes > max_bytes:
                raise HTTPException(413, _TOO_LARGE.format(max_bytes), _CLOSE)
        return message

    return receive_within_limits


def _max_bytes(scope: Scope, limits: Limits) -> int:
    if scope["method"] == "POST" and _UPLOADS.fullmatch(scope["path"]):
        return limits.upload_bytes + _FORM_BYTES
    if scope["method"] == "POST" and _JOBS.fullmatch(scope["path"]):
        return limits.body_bytes
    return limits.small_body_bytes
