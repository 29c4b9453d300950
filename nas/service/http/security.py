"""Keeps browsers from being used against the server: whom a request is for, whose page it comes from, what answers allow."""

from __future__ import annotations

import ipaddress
import re
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.service.http.problems import make_problem, response_of
from nas.service.settings import ServiceSettings

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?")
_ONCE = (b"host", b"content-length", b"transfer-encoding", b"authorization", b"origin", b"content-type")
"""Headers of which a second one would be understood otherwise by somebody else."""
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # charts place their parts by it
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": without TLS, forms of the pages would come with the origin "null", as those of strangers do.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """Adds to every answer what browsers are to keep to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class OriginCheck:
    """Lets through only requests that mean this server, and changes only where no other site's page asks for them.

    A name that leads here and that nobody gave the server is an attack by rebinding: the browser takes a stranger's page
    for one of this server. Addresses cannot be rebound. A change that a browser is made to send by another site's page
    says so in its headers; programs that are no browsers send none of these.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._loopback = settings.on_loopback and not settings.names
        names = {settings.host, "localhost", *settings.names}
        if not settings.on_loopback:
            names.add(socket.gethostname())
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := self._refusal(scope)) is not None:
            status, detail = refused
            # What cannot be understood leaves in doubt where the next request begins.
            headers = {"Connection": "close"} if status == 400 else {}
            answer = response_of(make_problem(status, detail, instance=scope["path"]), headers)
            return await answer(scope, receive, send)
        return await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        raw, headers = scope["headers"], Headers(scope=scope)
        for name in _ONCE:
            if sum(key == name for key, _ in raw) > 1:
                return 400, f"the header {name.decode()} comes twice"
        if "content-length" in headers and "transfer-encoding" in headers:
            return 400, "content-length and transfer-encoding exclude each other"
        host = _HOST.fullmatch(headers.get("host", ""))
        if host is None or not self._is_ours(host["name"]):
            return 400, (
                "the Host header names another server than this one; reach it by its address, or start it with --name NAME"
            )
        if scope["method"] not in _SAFE and not _from_here(headers):
            return (
                403,
                "a page of another site asked for this change; send it from this server's pages, or without a browser",
            )
        return None

    def _is_ours(self, name: str) -> bool:
        name = name.lower().rstrip(".")
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback or not self._loopback


def _from_here(headers: Headers) -> bool:
    """Whether no page of another site is behind a request (https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header)."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return True
    scheme, _, rest = origin.partition("://")
    return scheme in ("http", "https") and rest.lower() == headers.get("host", "").lower()


def is_local_path(path: str) -> bool:
    """Whether a text is a path of this server, whatever a browser makes of it: not another server's address."""
    return re.fullmatch(r"/(?![/\\])[^\x00-\x20\x7f\\]*", path) is not None
