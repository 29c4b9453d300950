"""Protects the server from attacks through browsers: checks of host and origin, and security headers."""

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
"""Headers that must not be repeated: servers and proxies differ in which one they use."""
_POLICY = (
    "default-src 'none'; script-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'"  # charts set styles
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": without TLS, forms of the pages would have the origin "null", as those of other sites.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """Adds the security headers to every response."""

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
    """Rejects requests for unknown hosts, and changes that another site's page requests.

    An unknown host name that resolves to this server is DNS rebinding: the browser takes another site's page for one of this
    server. Addresses cannot be rebound. Browsers mark requests of another site's page in headers, which other programs do
    not send.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._loopback = settings.on_loopback and not settings.names
        names = {settings.host, "localhost", *settings.names}
        if not settings.on_loopback:
            names.add(socket.gethostname())
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (rejected := self._rejection(scope)) is not None:
            status, detail = rejected
            # After a malformed request it is unclear where the next one begins.
            headers = {"Connection": "close"} if status == 400 else {}
            answer = response_of(make_problem(status, detail, instance=scope["path"]), headers)
            return await answer(scope, receive, send)
        return await self._app(scope, receive, send)

    def _rejection(self, scope: Scope) -> tuple[int, str] | None:
        raw, headers = scope["headers"], Headers(scope=scope)
        for name in _ONCE:
            if sum(key == name for key, _ in raw) > 1:
                return 400, f"the header {name.decode()} is repeated; send it once"
        if "content-length" in headers and "transfer-encoding" in headers:
            return 400, "content-length and transfer-encoding exclude each other; send one of them"
        host = _HOST.fullmatch(headers.get("host", ""))
        if host is None or not self._is_ours(host["name"]):
            return (
                400,
                "the Host header has an unknown name; use the server's address, or a name that its administrator has set",
            )
        if scope["method"] not in _SAFE and not _is_same_site(headers):
            return 403, "another site's page sent this request; send it from this server's pages, or without a browser"
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


def _is_same_site(headers: Headers) -> bool:
    """False for a request from another site's page (https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header)."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return True
    scheme, _, authority = origin.partition("://")
    return scheme in ("http", "https") and authority.lower() == headers.get("host", "").lower()


def is_local_path(path: str) -> bool:
    """True if every browser resolves a text to a path of this server, and never to another server's address."""
    return re.fullmatch(r"/(?![/\\])[^\x00-\x20\x7f\\]*", path) is not None
