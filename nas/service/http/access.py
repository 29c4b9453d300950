"""Authentication by token, and rate limits."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from nas.errors import ServiceError
from nas.service.api.error_codes import PROBLEMS
from nas.service.http.problems import error_response, problem_of, response_of, wants_page
from nas.service.path_privacy import PathPrivacy
from nas.service.people import SERVER, Caller, Role
from nas.service.settings import ServiceSettings

COOKIE = "nas_token"
SIGN_IN, SIGNED_IN = "/login/provider", "/login/callback"
_OPEN = ("/api/v1/health", "/login", SIGN_IN, SIGNED_IN, PROBLEMS)
_OPEN_BELOW = "/static/"
STRANGER = Caller("", Role.READER)
"""Who reads what is open to all."""
_MAX_CLIENTS = 10_000
_BURST_S = 10.0
"""Length of the bursts that the rate limit allows."""


class RateLimit:
    """A token bucket for each client: a rate with bursts.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_minute / 60, clock
        self._burst = max(1.0, _BURST_S * self._per_second)
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, client: str) -> bool:
        """True if a request of a client is within the limit; it is then counted."""
        now = self._clock()
        left, last = self._clients.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - last) * self._per_second)
        allowed = left >= 1
        self._clients[client] = (left - 1 if allowed else left, now)
        if len(self._clients) > _MAX_CLIENTS:
            self._clients.popitem(last=False)
        return allowed


def network_of(address: str) -> str:
    """The address, or its network of 64 bits for IPv6, of which one client has all addresses."""
    if ":" not in address:
        return address
    ip = ipaddress.IPv6Address(address.partition("%")[0])
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False))


class Access:
    """Rejects requests without a valid token where one is needed, and those above the rate limit.

    The person with the token is set in the request's state as its ``caller``, and the name as its ``token``, for the log;
    the token itself is not stored.

    Args:
        holder: the person with a token, or with the cookie of a session; None where it is not valid.
    """

    def __init__(self, settings: ServiceSettings, holder: Callable[[str], Caller | None]) -> None:
        self._holder, self._needed = holder, settings.needs_token
        self._rate, self._hide_paths = RateLimit(settings.limits.requests_per_minute), PathPrivacy(settings)

    def rejection(self, scope: Scope) -> Response | None:
        """The response to a request that is rejected; None for any other."""
        path, headers = scope["path"], Headers(scope=scope)
        token, malformed = _token_of(headers)
        caller, failure = None, None
        try:
            caller = None if token is None else self._holder(token)
        except ServiceError as error:
            failure = error
        name = "" if caller is None else caller.name
        client = scope.get("client")
        if not self._rate.allows(f"token {name}" if name else f"address {network_of(client[0]) if client else ''}"):
            return error_response(scope, 429, "too many requests; wait before the next one")
        if failure is not None:
            return response_of(problem_of(failure, self._hide_paths, instance=path), scope=scope)
        scope.setdefault("state", {}).update(token=name, caller=caller or STRANGER)
        open_to_all = path in _OPEN or path.startswith(_OPEN_BELOW)
        if caller is not None or open_to_all:
            return None
        if not self._needed and "authorization" not in headers:
            scope["state"]["caller"] = SERVER
            return None  # a cookie may be that of another server on this machine
        return _unauthorized(scope, has_token=malformed or token is not None)

    def still_holds(self, scope: Scope) -> bool:
        """False once the token of a request that was let in is no longer valid: a stream of events may last days."""
        token, _ = _token_of(Headers(scope=scope))
        if token is None or not scope["state"]["token"]:
            return True
        with suppress(ServiceError):
            return self._holder(token) is not None
        return False


def login_page(wanted: str, *, refused: bool = False) -> str:
    """The address of the page for signing in.

    Args:
        wanted: path and query of the page to go to afterwards.
        refused: whether an invalid token was entered.
    """
    return f"/login?next={quote(wanted, safe='/')}{'&refused=1' if refused else ''}"


def _token_of(headers: Headers) -> tuple[str | None, bool]:
    """The token of a request, None where it has none; and whether its header is malformed."""
    header = headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        malformed = scheme.lower() != "bearer" or not token.strip()
        return None if malformed else token.strip(), malformed
    # Not with Python's parser, which drops all cookies after one that it cannot parse: browsers send the cookies of all
    # servers with the same host name, on any port.
    return cookie_parser(headers.get("cookie", "")).get(COOKIE) or None, False


def _wanted(scope: Scope) -> str:
    """The page to go to after signing in: the requested one, or the first page where the request was a change."""
    path, query = quote(scope["path"]), scope.get("query_string", b"").decode("latin-1")
    if scope["method"] != "GET":
        return "/"
    return f"{path}?{query}" if query else path


def _unauthorized(scope: Scope, *, has_token: bool) -> Response:
    if wants_page(scope):
        return RedirectResponse(login_page(_wanted(scope)), 303)
    detail = (
        "the token is malformed, unknown, expired or revoked; the server's administrator can make a new one"
        if has_token
        else "this server needs a token, from its administrator; send it as Authorization: Bearer TOKEN"
    )
    return error_response(scope, 401, detail, {"WWW-Authenticate": "Bearer"})
