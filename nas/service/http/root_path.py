"""A server behind a proxy that has it below a path, such as ``https://team.example/nas``."""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.types import Scope

from nas.service.http.edited_responses import Edit

_LINK = re.compile(r'(?<=[\s"])(href|src|action)="/(?!/)')
"""An attribute of the pages' templates; values in it are escaped, so that no text of a user looks like one."""
_PROBLEM = re.compile(r'"(type|instance)": "/(?!/)')
_PROBLEMS = "application/problem+json"


class RootPath(Edit):
    """The path below which clients see a server, whose own routes, links and redirects are without it.

    Args:
        path: begins with ``/`` and does not end with one; "" for a server that is not below a path.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def enter(self, scope: Scope) -> None:
        """Removes the path from that of a request, where the proxy has not."""
        path = scope["path"]
        if self._path and (path == self._path or path.startswith(f"{self._path}/")):
            scope["path"] = path.removeprefix(self._path) or "/"
            scope["raw_path"] = scope["path"].encode()

    def headers(self, headers: MutableHeaders) -> None:
        """Redirects go below the path, and cookies are sent below it alone: other servers have the rest of the host."""
        if not self._path:
            return
        if headers.get("location", "").startswith("/"):
            headers["location"] = self._path + headers["location"]
        cookies = headers.getlist("set-cookie")
        del headers["set-cookie"]
        for cookie in cookies:
            headers.append("set-cookie", re.sub(r"; Path=(?:/(?=;|$))?", f"; Path={self._path}", cookie))

    def text(self, text: str, media_type: str) -> str:
        """Links of pages, and references of problems, with the path before them."""
        if not self._path:
            return text
        if media_type.startswith("text/html"):
            return _LINK.sub(rf'\1="{self._path}/', text)
        return _PROBLEM.sub(rf'"\1": "{self._path}/', text) if media_type.startswith(_PROBLEMS) else text
