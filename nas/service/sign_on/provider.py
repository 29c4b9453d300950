"""The client of an OpenID provider: authorization code flow with PKCE (RFC 7636), and checks of the ID token.

OpenID Connect Core 1.0 (2014), sections 3.1 and 5.3; OpenID Connect Discovery 1.0, section 4; RFC 9207 for the issuer of a
response.
"""

from __future__ import annotations

import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import httpx
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from nas.errors import NotAllowedError, ServiceError
from nas.service.sign_on.settings import EMAIL, VERIFIED, SignOnSettings, is_confidential

_ANSWER_S = 10.0
_FRESH_S = 3600.0
"""Lifetime of the provider's description and keys; keys are asked for again when a token names an unknown one."""
_BETWEEN_KEYS_S = 10.0
_CLOCKS_S = 60
"""By which the clocks of the provider and of this machine may differ."""
_ALGORITHMS = [f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)]
"""Signatures by the provider's keys alone: neither ``none`` nor one by the client's secret."""
_METHODS = ("client_secret_basic",)
"""Of a provider that states none (OpenID Connect Discovery 1.0, section 3)."""
_SCOPES = ("openid", "profile", "email", "groups")
T = TypeVar("T")
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class SignInError(NotAllowedError):
    """A sign-in was rejected, by the provider or by the checks of its answer."""

    code = "sign-on.rejected"


class Provider:
    """An OpenID provider, described by itself. Safe to use from several threads.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, settings: SignOnSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._clock, self._lock = settings, clock, threading.Lock()
        self._described: tuple[float, Mapping[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """The address at which a person signs in.

        Raises:
            ServiceError: the provider does not answer.
        """
        described, settings = self._description(), self._settings
        supported = described.get("scopes_supported", _SCOPES)
        query = {
            "response_type": "code",
            "client_id": settings.client,
            "redirect_uri": settings.callback,
            "scope": " ".join(scope for scope in _SCOPES if scope == "openid" or scope in supported),
            "state": state,
            "nonce": nonce,
            "code_challenge": urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        url = str(described["authorization_endpoint"])
        return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"

    def claims(self, code: str, *, nonce: str, verifier: str, issuer: str | None) -> Mapping[str, Any]:
        """The claims of the person who has signed in with the provider.

        Args:
            code: of the provider's response.
            nonce, verifier: those that `authorization_url` was made with.
            issuer: that the response names; None where it names none.

        Raises:
            SignInError: the provider rejects the code, or its ID token is not valid for this sign-in.
            ServiceError: the provider does not answer.
        """
        described = self._description()
        if issuer is not None and issuer != described["issuer"]:
            raise SignInError(f"the response is from {issuer!r}, and not from {described['issuer']}")
        token = self._asked(lambda: self._token(described, code, verifier))
        if not isinstance(token.get("id_token"), str):
            raise SignInError("the provider sent no ID token; the client must be registered for OpenID Connect")
        claims = self._checked(token["id_token"], described["issuer"], nonce)
        endpoint = described.get("userinfo_endpoint")
        if endpoint and not self._needed <= claims.keys():
            headers = {"Authorization": f"Bearer {token.get('access_token', '')}"}
            info = self._asked(lambda: _json(httpx.get(endpoint, headers=headers, timeout=_ANSWER_S)))
            if info.get("sub") != claims["sub"]:
                raise SignInError("the provider's user information is about another person")
            claims = {**info, **claims}
        return claims

    @property
    def _needed(self) -> set[str]:
        names = {self._settings.person_claim, *(rule.claim for rule in self._settings.roles)}
        return names | {VERIFIED} if EMAIL in names else names

    def _checked(self, id_token: str, issuer: str, nonce: str) -> Mapping[str, Any]:
        """The claims of an ID token with a valid signature, for this client and this sign-in, now."""
        client = self._settings.client
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=_CLOCKS_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            try:
                token = jwt.decode(id_token, self._key_set(), algorithms=_ALGORITHMS)
            except InvalidKeyIdError:
                token = jwt.decode(id_token, self._key_set(max_age_s=_BETWEEN_KEYS_S), algorithms=_ALGORITHMS)
            registry.validate(token.claims)
        except (JoseError, ValueError, TypeError) as error:
            raise SignInError(f"the provider's ID token is not valid ({error})") from None
        audience = token.claims["aud"]
        is_for_several = isinstance(audience, list) and len(audience) > 1
        if token.claims.get("azp", None if is_for_several else client) != client:  # Core 1.0, 3.1.3.7
            raise SignInError("the provider's ID token is also for another client, and was not made for this one")
        return token.claims

    def _token(self, described: Mapping[str, Any], code: str, verifier: str) -> Mapping[str, Any]:
        """The provider's tokens for a code (RFC 6749, 2.3.1 and 4.1.3)."""
        settings, auth = self._settings, None
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": settings.callback,
            "client_id": settings.client,
            "code_verifier": verifier,
        }
        if settings.secret is not None:
            if "client_secret_basic" in described.get("token_endpoint_auth_methods_supported", _METHODS):
                auth = httpx.BasicAuth(quote(settings.client, safe=""), quote(settings.secret, safe=""))
            else:
                form["client_secret"] = settings.secret
        answer = httpx.post(described["token_endpoint"], data=form, auth=auth, timeout=_ANSWER_S)
        if answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED):
            raise SignInError(f"the provider rejects the sign-in ({answer.text[:300]})")
        return _json(answer)

    def _description(self) -> Mapping[str, Any]:
        with self._lock:
            now = self._clock()
            if self._described is None or not 0 <= now - self._described[0] < _FRESH_S:
                url = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
                described = self._asked(lambda: _json(httpx.get(url, timeout=_ANSWER_S)))
                if str(described.get("issuer", "")).rstrip("/") != self._settings.issuer.rstrip("/"):
                    raise ServiceError(
                        f"{url} describes the issuer {described.get('issuer')!r}; expected {self._settings.issuer}",
                        code="sign-on.unavailable",
                    )
                if missing := [name for name in _ENDPOINTS if not isinstance(described.get(name), str)]:
                    raise ServiceError(f"{url} has no {', '.join(missing)}", code="sign-on.unavailable")
                for name in (*_ENDPOINTS, "userinfo_endpoint"):
                    if name in described and not is_confidential(str(described[name])):
                        text = (
                            f"{url} has the {name} {described[name]!r}; expected https://, since tokens are sent there"
                        )
                        raise ServiceError(text, code="sign-on.unavailable")
                self._described = now, described
            return self._described[1]

    def _key_set(self, max_age_s: float = _FRESH_S) -> KeySet:
        """The provider's keys, asked for again where they are older."""
        url = self._description()["jwks_uri"]
        with self._lock:
            now = self._clock()
            if self._keys is None or not 0 <= now - self._keys[0] < max_age_s:
                text = self._asked(lambda: _json(httpx.get(url, timeout=_ANSWER_S)))
                self._keys = now, self._asked(lambda: KeySet.import_key_set(text))  # type: ignore[arg-type]
            return self._keys[1]

    def _asked(self, ask: Callable[[], T]) -> T:
        """The provider's answer to a request."""
        try:
            return ask()
        except (httpx.HTTPError, JoseError, ValueError, TypeError, KeyError) as error:
            text = f"the provider {self._settings.issuer} does not answer as expected ({error!r:.300})"
            raise ServiceError(f"{text}; sign in with a token meanwhile", code="sign-on.unavailable") from None


def _json(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer."""
    content = answer.raise_for_status().json()
    if not isinstance(content, dict):
        raise ValueError(f"{answer.url}: expected a JSON object")
    return content
