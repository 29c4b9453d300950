"""The base of the JSON models of the REST API, and the types that several of them share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

RunKind = Literal["search", "training"]
TaskStatusName = Literal["queued", "running", "finished", "failed", "cancelled"]


class Schema(BaseModel):
    """A frozen model that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FieldProblem(Schema):
    """An error in one field of a request."""

    field: str  # Its path, e.g. ``search.evaluations``; "" for the whole
    message: str
