"""Requests as no well-behaved client makes them, given to the application directly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message

GONE = {"type": "http.disconnect"}


def piece(body: bytes, *, more: bool = True) -> Message:
    """A part of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


@dataclass
class RawAnswer:
    """What came back; status 0 for nothing."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def problem(self) -> Any:
        return json.loads(self.body)


def send_raw(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    headers: Sequence[tuple[bytes, bytes]] = ((b"host", b"127.0.0.1"),),
    messages: Iterable[Message] = (),
    stall: bool = False,
) -> RawAnswer:
    """The answer to a request.

    Args:
        messages: the body, piece by piece, each made when it is received; then nothing but the end of the connection.
        stall: say nothing more after the messages, not even that.
    """
    answer, left = RawAnswer(), iter(messages)

    async def receive() -> Message:
        if (message := next(left, None)) is not None:
            return message
        if stall:
            await asyncio.sleep(3600)
        return dict(GONE)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": list(headers),
        "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8700), "state": {},
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return answer
