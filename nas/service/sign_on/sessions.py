"""Sessions of people who have signed in with a provider: signed cookies, bounded in time, and ended by signing out."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from nas.engine.store.folder import write_atomically
from nas.errors import ServiceError
from nas.service.file_permissions import make_private, write_secret
from nas.service.people import Caller, Role

PREFIX = "session."
"""Of the value of a session's cookie, which distinguishes it from a token."""
_ALGORITHM = "HS256"
_KEY_BYTES = 32


class SignedCookies:
    """Values that this server has signed, and that expire (JSON Web Tokens, RFC 7519).

    Args:
        folder: The server's own folder, which has the key.
        clock: seconds since the epoch.

    Raises:
        ServiceError: the key cannot be read or written.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        path = folder / "session.key"
        try:
            make_private(folder)
            if not path.exists():
                write_secret(path, secrets.token_hex(_KEY_BYTES))
            self._key = OctKey.import_key(bytes.fromhex(path.read_text().strip()))
        except (OSError, ValueError) as error:
            text = f"{path}: cannot be used ({error}); remove it, and people sign in again"
            raise ServiceError(text, code="sign-on.key-damaged") from None

    def signed(self, purpose: str, values: Mapping[str, Any], *, lifetime_s: float) -> str:
        """A text with values for one purpose, valid from now on."""
        claims = {**values, "aud": purpose, "exp": int(self._clock() + lifetime_s), "jti": secrets.token_hex(16)}
        return jwt.encode({"alg": _ALGORITHM}, claims, self._key)

    def read(self, purpose: str, text: str) -> Mapping[str, Any] | None:
        """The values of a text that this server has signed for a purpose; None if it has not, or the text has expired."""
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            aud={"essential": True, "value": purpose},
            exp={"essential": True},
            jti={"essential": True},
        )
        try:
            token = jwt.decode(text, self._key, algorithms=[_ALGORITHM])
            registry.validate(token.claims)
        except (JoseError, ValueError, TypeError):  # TypeError: of headers with values of another type
            return None
        return token.claims


class Sessions:
    """The sessions of one server. Safe to use from several threads.

    Args:
        folder: The server's own folder, which records the sessions that were signed out before their end.
        clock: seconds since the epoch.
    """

    def __init__(
        self, cookies: SignedCookies, folder: Path, *, lifetime_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._cookies, self._lifetime_s, self._clock = cookies, lifetime_s, clock
        self._path, self._lock = folder / "signed-out.json", threading.Lock()
        try:
            self._ended: dict[str, float] = json.loads(self._path.read_bytes()) if self._path.exists() else {}
        except (OSError, ValueError) as error:
            text = f"{self._path}: damaged ({error}); remove it together with session.key, and people sign in again"
            raise ServiceError(text, code="sign-on.key-damaged") from None

    def begin(self, caller: Caller) -> str:
        """The value of the cookie of a new session."""
        values = {"name": caller.name, "role": str(caller.role)}
        return PREFIX + self._cookies.signed("session", values, lifetime_s=self._lifetime_s)

    def holder(self, cookie: str) -> Caller | None:
        """The person of a session; None where it is not valid."""
        claims = self._claims(cookie)
        if claims is None or claims["jti"] in self._ended:
            return None
        return Caller(claims["name"], Role(claims["role"]))

    def end(self, cookie: str) -> None:
        """Ends a session, also where a copy of its cookie stays; no effect on what is none.

        Raises:
            StoreError: that cannot be recorded.
        """
        claims = self._claims(cookie)
        if claims is None:
            return
        with self._lock:
            now = self._clock()
            self._ended = {name: end for name, end in self._ended.items() if end > now} | {claims["jti"]: claims["exp"]}
            write_atomically(self._path, json.dumps(self._ended).encode())

    def _claims(self, cookie: str) -> Mapping[str, Any] | None:
        if not cookie.startswith(PREFIX):
            return None
        return self._cookies.read("session", cookie.removeprefix(PREFIX))
