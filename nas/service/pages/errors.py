"""Problem details as HTML pages."""

from __future__ import annotations

import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.service.http.problems import MEDIA_TYPE
from nas.service.pages.rendering import page

_API = "/api/"
_TITLES = {
    403: "Not allowed",
    404: "Not found",
    413: "Too large",
    422: "Not understood",
    429: "Not now",
    503: "Not now",
}


class ReadableErrors:
    """Middleware that turns problem details into pages for browsers; responses of the API stay as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and not scope["path"].startswith(_API)
        if not is_page or "text/html" not in Headers(scope=scope).get("accept", ""):
            return await self._app(scope, receive, send)
        start: Message | None = None
        body = b""

        async def read(message: Message) -> None:
            nonlocal start, body
            is_start = message["type"] == "http.response.start"
            if is_start and Headers(raw=message["headers"]).get("content-type") == MEDIA_TYPE:
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await _send_page(start, body, scope, receive, send)

        return await self._app(scope, receive, read)


async def _send_page(start: Message, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
    problem = json.loads(body)
    title = _TITLES.get(problem["status"], problem["title"])
    answer = page("error.html", status=problem["status"], title=title, detail=problem["detail"], about=problem["type"])
    headers = MutableHeaders(raw=answer.raw_headers)
    for name, value in Headers(raw=start["headers"]).items():
        headers.setdefault(name, value)  # Retry-After, for example
    await answer(scope, receive, send)
