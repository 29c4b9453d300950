"""Models that several subjects of the REST API share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ENDED = frozenset({"finished", "failed", "cancelled"})
"""Statuses of tasks, and of runs that are not resumed, after which nothing changes."""


class Schema(BaseModel):
    """A frozen model that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FieldProblem(Schema):
    """An error in one field of a request."""

    field: str  # Its path, e.g. ``search.evaluations``; "" for the whole
    message: str


class Problem(BaseModel):
    """An error, as problem details (RFC 9457); media type ``application/problem+json``."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    """``/problems#CODE`` for errors with a code, a page of the server; ``about:blank`` for those of HTTP alone."""
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: tuple[FieldProblem, ...] = ()


class ObjectiveInfo(Schema):
    """An objective or a constrained metric of a search."""

    name: str
    unit: str
    goal: Literal["maximize", "minimize"]


class Figure(Schema):
    """A value with its error: one standard error (accuracy), the noise floor (latency), 0 (exact)."""

    value: float
    error: float


Offset = Annotated[int, Field(ge=0, le=10**9, description="How many to skip.")]


class Query(BaseModel):
    """The parameters of a request for some of a list; unknown ones are ignored."""

    model_config = ConfigDict(frozen=True)
