"""Edits the headers and the text of every response, whichever route it is from."""

from __future__ import annotations

from typing import Protocol

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

_TEXTS = (
    "application/json",
    "application/problem+json",
    "application/yaml",
    "text/csv",
    "text/event-stream",
    "text/html",
    "text/plain",
)
"""Media types of responses with messages; files of exports and of the pages have others."""


class Edit(Protocol):
    """One change of responses; the defaults change nothing."""

    def headers(self, headers: MutableHeaders) -> None:
        """Changes the headers of a response."""
        return

    def text(self, text: str, media_type: str) -> str:
        """The text to send in place of a response's, or of a part of a stream."""
        return text


class EditedResponse:
    """Sends one response with changes.

    A text with a length is sent once it is complete; of a stream, each part.

    Args:
        send: where the response goes.
        edits: its changes, in this order.
    """

    def __init__(self, send: Send, edits: tuple[Edit, ...]) -> None:
        self._send, self._edits = send, edits
        self._start: Message | None = None  # of a response that is not complete
        self._body = b""
        self._media_type = ""  # of a text

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for edit in self._edits:
                edit.headers(headers)
            media_type = headers.get("content-type", "")
            self._media_type = media_type if media_type.startswith(_TEXTS) else ""
            if self._media_type and "content-length" in headers:
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body", False):
                return
            message = {**message, "body": self._edited(self._body)}
            MutableHeaders(scope=self._start)["content-length"] = str(len(message["body"]))
            await self._send(self._start)
            self._start = None
        elif self._media_type:
            message = {**message, "body": self._edited(message.get("body", b""))}
        await self._send(message)

    def _edited(self, body: bytes) -> bytes:
        text = body.decode(errors="surrogateescape")
        for edit in self._edits:
            text = edit.text(text, self._media_type)
        return text.encode(errors="surrogateescape")
