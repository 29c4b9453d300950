"""Signing in to and out of the pages: the token is stored in a cookie that scripts cannot read."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from nas.service.http.access import COOKIE, login_page
from nas.service.http.security import is_local_path
from nas.service.http.tokens import Tokens
from nas.service.settings import ServiceSettings

_LONGEST_S = 30 * 24 * 3600


def routes(settings: ServiceSettings, tokens: Tokens) -> APIRouter:
    """``POST /login`` and ``POST /logout``; the form is one of the pages."""
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
            return RedirectResponse(login_page(wanted, refused=True), 303)
        left = tokens.seconds_left(caller.name)
        age = _LONGEST_S if left is None else min(_LONGEST_S, int(left))
        answer = RedirectResponse(wanted, 303)
        answer.set_cookie(
            COOKIE, token.strip(), max_age=age, httponly=True, samesite="strict", secure=is_secure(request)
        )
        return answer

    @router.post("/logout")
    def sign_out(request: Request) -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=is_secure(request))
        return answer

    return router
