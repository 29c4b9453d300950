"""Protects the server from attacks through browsers: checks of host and origin, and security headers."""

from __future__ import annotations

import ipaddress
import re
import socket

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from nas.service.http.problems import error_response
from nas.service.settings import ServiceSettings

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing."""
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
"""Of every response."""


class OriginCheck:
    """Rejects requests for unknown hosts, and changes that another site's page requests.

    An unknown host name that resolves to this server is DNS rebinding: the browser takes another site's page for one of this
    server. Addresses cannot be rebound. Browsers mark requests of another site's page in headers, which other programs do
    not send.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._loopback = settings.on_loopback and not settings.names
        names = {settings.host, "localhost", *settings.names}
        if not settings.on_loopback:
            names.add(socket.gethostname())
        self._names = frozenset(name.lower() for name in names)

    def rejection(self, scope: Scope) -> Response | None:
        """The response to a request that is rejected; None for any other."""
        raw, headers = scope["headers"], Headers(scope=scope)
        for name in _ONCE:
            if sum(key == name for key, _ in raw) > 1:
                return _malformed(scope, f"the header {name.decode()} is repeated; send it once")
        if "content-length" in headers and "transfer-encoding" in headers:
            return _malformed(scope, "content-length and transfer-encoding exclude each other; send one of them")
        host = _HOST.fullmatch(headers.get("host", ""))
        if host is None or not self._is_ours(host["name"]):
            text = "the Host header has an unknown name; use the server's address, or a name that its administrator has set"
            return _malformed(scope, text)
        if scope["method"] not in SAFE and not _is_same_site(headers):
            text = "another site's page sent this request; send it from this server's pages, or without a browser"
            return error_response(scope, 403, text)
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


def _malformed(scope: Scope, text: str) -> Response:
    """The response to a malformed request, after which it is unclear where the next one begins."""
    return error_response(scope, 400, text, {"Connection": "close"})


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
