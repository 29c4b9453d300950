"""The people who use a server: their roles, and who sent the present request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """The rights of a person, from the fewest to all."""

    READER = "reader"
    """Sees everything that is not hidden, and changes nothing."""
    MEMBER = "member"
    """Also submits and uploads, and changes what belongs to this person."""
    ADMINISTRATOR = "administrator"
    """Also changes what belongs to others, and sees what is hidden."""

    def includes(self, role: Role) -> bool:
        """True if this one has all rights of a role."""
        roles = list(Role)
        return roles.index(self) >= roles.index(role)


@dataclass(frozen=True, slots=True)
class Caller:
    """The person who sent a request.

    Attributes:
        name: of the token; "" for the local user of a server that needs no token.
    """

    name: str
    role: Role

    def __str__(self) -> str:
        return f"{self.name or 'the local user'} ({self.role})"


SERVER = Caller("", Role.ADMINISTRATOR)
"""The server itself, and the local user of one that needs no token."""
_current: ContextVar[Caller] = ContextVar("caller", default=SERVER)


def current_caller() -> Caller:
    """The sender of the request that this call answers; `SERVER` outside of requests."""
    return _current.get()


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Makes a person the `current_caller` of a block."""
    reset = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(reset)
