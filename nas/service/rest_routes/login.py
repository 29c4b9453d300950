"""Signing in to and out of the pages: a token, or a session, is stored in a cookie that scripts cannot read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from nas.service.http.access import COOKIE, SIGN_IN, SIGNED_IN, STRANGER, login_page
from nas.service.http.security import is_local_path
from nas.service.http.tokens import Tokens
from nas.service.pages.rendering import page
from nas.service.settings import ServiceSettings

if TYPE_CHECKING:
    from nas.service.sign_on.sign_on import SignOn

_BEGUN = "nas_sign_in"
"""Cookie of a sign-in that has begun."""
_BEGIN_S = 600
_LONGEST_S = 30 * 24 * 3600


def routes(settings: ServiceSettings, tokens: Tokens, sign_on: SignOn | None = None) -> APIRouter:
    """``POST /login`` and ``POST /logout``, and those of single sign-on; the form is one of the pages."""
    router = APIRouter(include_in_schema=False)

    def is_secure(request: Request) -> bool:
        """True if the cookie is for TLS only: of the server, or of a proxy, which the browser's origin shows."""
        return settings.certificate is not None or request.headers.get("origin", "").startswith("https://")

    @router.post("/login")
    def sign_in(
        request: Request,
        token: Annotated[str, Form(max_length=200)] = "",
        next_: Annotated[str, Form(alias="next", max_length=2000)] = "/",
    ) -> Response:
        wanted = next_ if is_local_path(next_) else "/"
        caller = tokens.holder(token.strip())
        if caller is None:
            request.state.is_refused = True  # for the audit log
            return RedirectResponse(login_page(wanted, refused=True), 303)
        request.state.caller = caller
        left = tokens.seconds_left(caller.name)
        age = _LONGEST_S if left is None else min(_LONGEST_S, int(left))
        answer = RedirectResponse(wanted, 303)
        answer.set_cookie(
            COOKIE, token.strip(), max_age=age, httponly=True, samesite="strict", secure=is_secure(request)
        )
        return answer

    @router.post("/logout")
    def sign_out(request: Request) -> Response:
        if sign_on is not None:
            sign_on.sessions.end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=is_secure(request))
        return answer

    if sign_on is not None:
        _add_sign_on(router, sign_on, settings.root_path)
    return router


def _add_sign_on(router: APIRouter, sign_on: SignOn, root_path: str) -> None:
    settings = sign_on.settings

    @router.get(SIGN_IN)
    def begin(next_: Annotated[str, Query(alias="next", max_length=2000)] = "/") -> Response:
        """Leads to the provider."""
        url, cookie = sign_on.begin(next_ if is_local_path(next_) else "/")
        answer = RedirectResponse(url, 303, {"Cache-Control": "no-store"})
        # Not "strict": the provider's site leads back here.
        answer.set_cookie(
            _BEGUN, cookie, max_age=_BEGIN_S, path=SIGNED_IN, httponly=True, samesite="lax", secure=settings.secure
        )
        return answer

    @router.get(SIGNED_IN)
    def finish(request: Request) -> Response:
        """Begins a session of the person whom the provider sends back."""
        request.state.caller = STRANGER  # for the audit log: not who was signed in before
        session, wanted = sign_on.finish(dict(request.query_params), request.cookies.get(_BEGUN, ""))
        request.state.caller = sign_on.sessions.holder(session)
        # No redirect: after one from the provider's site, browsers would not send a cookie that is "strict".
        answer = page("signed_in.html", wanted=f"{root_path}{wanted}")
        answer.set_cookie(
            COOKIE, session, max_age=int(settings.session_s), httponly=True, samesite="strict", secure=settings.secure
        )
        answer.delete_cookie(_BEGUN, path=SIGNED_IN, httponly=True, samesite="lax", secure=settings.secure)
        return answer
