"""Access tokens of clients, stored as digests."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from nas.engine.store.folder import write_atomically
from nas.errors import ServiceError, UnknownNameError
from nas.service.file_permissions import UMASK, locked
from nas.service.people import Caller, Role
from nas.service.stamped_cache import FileStamp, file_stamp
from nas.service.uploads.storage_checks import checked_name

_PREFIX = "nas_"
"""Identifies a token to people and to scanners for leaked secrets."""
_BYTES = 32


@dataclass(frozen=True, slots=True)
class Token:
    """The stored part of a token.

    Attributes:
        digest: SHA-256 of the token, which is random enough to need no salt.
        created, expires: seconds since the epoch; None for one that never expires.
        role: tokens of earlier versions had all rights, and keep them.
    """

    name: str
    digest: str
    created: float
    expires: float | None
    role: Role = Role.ADMINISTRATOR

    def valid(self, now: float) -> bool:
        """True if the token has not expired at ``now``, in seconds since the epoch."""
        return self.expires is None or now < self.expires


class Tokens:
    """The tokens in a file, which is read again when it has changed. Safe to use from several threads.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._cached: tuple[FileStamp | None, tuple[Token, ...]] = (None, ())

    def make(self, name: str, *, lifetime_s: float | None, role: Role = Role.MEMBER) -> str:
        """A new token, which cannot be read again.

        Raises:
            ServiceError: one of this name is valid, or the file cannot be written.
            JobError: the name is invalid.
        """
        checked_name("token", name)
        secret = _PREFIX + secrets.token_urlsafe(_BYTES)
        now = self._clock()
        with self._changing() as tokens:
            if any(token.name == name and token.valid(now) for token in tokens):
                text = f"there is a token {name!r} already; revoke it first, or choose another name"
                raise ServiceError(text, code="name.taken")
            other_tokens = [token for token in tokens if token.name != name]
            expires = None if lifetime_s is None else now + lifetime_s
            self._write([*other_tokens, Token(name, _digest(secret), now, expires, role)])
        return secret

    def revoke(self, name: str) -> None:
        """Removes a token; a running server rejects it from now on."""
        with self._changing() as tokens:
            if name not in [token.name for token in tokens]:
                raise UnknownNameError("token", name, [token.name for token in tokens])
            self._write([token for token in tokens if token.name != name])

    def entries(self) -> tuple[Token, ...]:
        """All tokens, also expired ones, in the order of their creation."""
        stamp = file_stamp(self._path)  # every change creates a new file
        with self._lock:
            if stamp is None or stamp != self._cached[0]:
                self._cached = (stamp, self._load())
            return self._cached[1]

    def holder(self, shown: str) -> Caller | None:
        """The person with a client's token; None where it is not valid.

        The time of a comparison does not depend on the token.
        """
        digest, now, caller = _digest(shown), self._clock(), None
        for token in self.entries():
            if hmac.compare_digest(token.digest, digest) and token.valid(now):
                caller = Caller(token.name, token.role)
        return caller

    def seconds_left(self, name: str) -> float | None:
        """Until a token expires; None for one that never does, 0 for an unknown one."""
        for token in self.entries():
            if token.name == name:
                return None if token.expires is None else max(0.0, token.expires - self._clock())
        return 0.0

    def _load(self) -> tuple[Token, ...]:
        try:
            entries = json.loads(self._path.read_bytes())["tokens"]
            return tuple(Token(**{**entry, "role": Role(entry.get("role", Role.ADMINISTRATOR))}) for entry in entries)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            text = f"{self._path}: damaged or not readable; remove it and make new tokens with `nas token make`"
            raise ServiceError(text, code="token.file-damaged") from None

    def _write(self, tokens: list[Token]) -> None:
        content = json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=1).encode()
        before = os.umask(UMASK)
        try:
            write_atomically(self._path, content)
        finally:
            os.umask(before)

    @contextmanager
    def _changing(self) -> Iterator[tuple[Token, ...]]:
        """The tokens, while no other process can change them."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._path.with_suffix(".lock")))
            except OSError as error:
                raise ServiceError(f"{self._path.parent} cannot be written: {error.strerror}") from None
            yield self._load()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
