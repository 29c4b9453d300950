"""The JSON models of the operation of a server: people, the audit log and its state."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from nas.service.api.schemas.common import Schema

AuditOutcome = Literal["done", "denied", "failed"]


class Person(Schema):
    """The sender of a request."""

    name: str  # Of the token; "" for the local user of a server that needs none
    role: Literal["reader", "member", "administrator"]


class AuditEntry(Schema):
    """A change that somebody made, or was denied."""

    time: datetime
    who: str  # The name of the token, or the user who gave a command; "" for the local user, and without a valid token
    role: str  # "" without a valid token
    action: str
    thing: str  # The name of what was changed or made; "" for none
    outcome: AuditOutcome
    status: int  # Of the response; 0 for a command
    address: str  # Of the client; "" for a command
    request: str  # Its id in the server's log


class AuditPage(Schema):
    """Some entries of the audit log, the newest first."""

    total: int
    offset: int
    entries: tuple[AuditEntry, ...]


class Health(Schema):
    """The answer of a server that runs, with its version."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(Schema):
    """The readiness for jobs, with the state of each part of the server: "ok", or the error."""

    ready: bool
    parts: dict[str, str]
