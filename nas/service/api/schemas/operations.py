"""The JSON models of the operation of a server: people, the audit log and its state."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from nas.service.api.schemas.common import Offset, Query, Schema

AuditOutcome = Literal["done", "denied", "failed"]


class Person(Schema):
    """The sender of a request."""

    name: str  # Of the token; "" for the local user of a server that needs none
    role: Literal["reader", "member", "administrator"]


class AuditQuery(Query):
    """A filter and a page of the audit log."""

    who: str = Field(default="", max_length=80, description="Only entries of this person.")
    action: str = Field(default="", max_length=80, description="A part of the action, e.g. `delete`.")
    thing: str = Field(default="", max_length=200, description="A part of the thing's name.")
    outcome: AuditOutcome | None = Field(default=None, description="Only entries of this outcome.")
    offset: Offset = 0
    limit: int = Field(default=100, ge=1, le=1000, description="How many at most.")


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
