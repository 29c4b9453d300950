"""Signing in with a provider, from the first redirect to the session."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nas.service.people import Caller
from nas.service.sign_on.provider import Provider, SignInError
from nas.service.sign_on.sessions import Sessions, SignedCookies
from nas.service.sign_on.settings import EMAIL, VERIFIED, SignOnSettings

BEGIN_S = 600
"""For a person to sign in with the provider."""
_PURPOSE = "sign-in"
_NAME = re.compile(r"[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?")


class SignOn:
    """Single sign-on of one server. Safe to use from several threads.

    Args:
        folder: The server's own folder.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: SignOnSettings, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._provider = Provider(settings, clock)
        self._cookies = SignedCookies(folder, clock)
        self.sessions = Sessions(self._cookies, folder, lifetime_s=settings.session_s, clock=clock)

    def begin(self, wanted: str) -> tuple[str, str]:
        """The provider's address for a new sign-in, and the value of the cookie that `finish` needs.

        Args:
            wanted: path of the page to go to afterwards.

        Raises:
            ServiceError: the provider does not answer.
        """
        state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
        url = self._provider.authorization_url(state=state, nonce=nonce, verifier=verifier)
        values = {"state": state, "nonce": nonce, "verifier": verifier, "wanted": wanted}
        return url, self._cookies.signed(_PURPOSE, values, lifetime_s=BEGIN_S)

    def finish(self, response: Mapping[str, str], cookie: str) -> tuple[str, str]:
        """The value of the cookie of a new session, and the path of the page to go to.

        Args:
            response: the parameters with which the provider sent the browser back.
            cookie: that `begin` made, in the same browser.

        Raises:
            SignInError: the sign-in was not begun in this browser, the provider rejected it, or the person has no role.
            ServiceError: the provider does not answer.
        """
        begun = self._cookies.read(_PURPOSE, cookie)
        state = response.get("state", "")
        if begun is None or not hmac.compare_digest(state.encode(), str(begun["state"]).encode()):
            minutes = BEGIN_S // 60
            raise SignInError(
                f"the sign-in was not begun in this browser, or more than {minutes} minutes ago; sign in again"
            )
        if error := response.get("error"):
            detail = response.get("error_description", "")
            raise SignInError(f"the provider says {error[:80]}" + (f": {detail[:300]}" if detail else ""))
        claims = self._provider.claims(
            response.get("code", ""), nonce=begun["nonce"], verifier=begun["verifier"], issuer=response.get("iss")
        )
        return self.sessions.begin(self._caller(claims)), str(begun["wanted"])

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        claim = self.settings.person_claim
        name = claims.get(claim)
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise SignInError(
                f"the provider sent no name in the claim {claim!r}; the server's administrator can choose another"
            )
        verified = claims.get(VERIFIED, self.settings.trusts_email)
        is_verified = verified is True or verified == "true"  # some providers send texts
        if claim == EMAIL and not is_verified:
            raise SignInError(
                f"the provider does not say that it has verified the address {name}; expected the claim {VERIFIED!r}"
            )
        role = self.settings.role_of(claims if is_verified else {**claims, EMAIL: None})
        if role is None:
            raise SignInError(f"the person {name!r} has no role on this server; its administrator decides who has one")
        return Caller(name, role)
