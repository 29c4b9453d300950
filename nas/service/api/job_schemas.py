"""The JSON models of jobs before they are runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from nas.service.api.schema_base import FieldProblem, RunKind, Schema, TaskStatusName


class JobSubmission(Schema):
    """A job to run."""

    job: str | dict[str, Any] = Field(description="The job file: its text (YAML), or its content as an object.")
    kind: RunKind = Field(default="search", description="A search, or the training of its supernet alone.")
    hardware: tuple[str, ...] | None = Field(
        default=None, description="Hardware profiles, in place of the job's own.", max_length=16
    )


class JobMetric(Schema):
    """A metric that can be an objective of a job, or have limits."""

    name: str  # As the job's objectives name it, or would
    limit_name: str  # As its constraints name it, or would
    unit: str
    goal: Literal["maximize", "minimize"]
    is_objective: bool
    minimum: float | None
    maximum: float | None


class JobFields(Schema):
    """The usual settings of a job, with defaults where it has none."""

    epochs: int | None  # None where the job starts from a trained supernet
    evaluations: int
    minutes: float | None
    hardware: tuple[str, ...]
    metrics: tuple[JobMetric, ...]


class JobCheck(Schema):
    """The errors in a job before it is submitted, or its usual settings."""

    ok: bool
    errors: tuple[FieldProblem, ...] = ()
    fields: JobFields | None = None  # None where there are errors


class JobEdit(Schema):
    """Changes of values in the text of a job file; comments and all other values stay."""

    job: str
    changes: dict[str, int | float | str | tuple[str, ...] | None] = Field(
        max_length=20, description="New values by path, e.g. `search.evaluations`; null removes a key."
    )


class EditedJob(Schema):
    """The text of a job file after changes."""

    job: str


class JobPlan(Schema):
    """The plan of a job: the size and the costs of its space, and an estimate of the time, once it is finished."""

    plan: str
    status: TaskStatusName
    reason: str
    submitted: datetime
    time_limit_s: float | None = None
    result: dict[str, Any] | None  # The output of `nas plan --json`


class Recipe(Schema):
    """A built-in job file."""

    name: str
    title: str
    job: str | None = None  # Its text; None in lists


class Plugin(Schema):
    """A plug-in that submitted jobs may name: one that a package registers, or a class that the server's owner allows."""

    kind: str  # The end of its entry-point group, e.g. search; "" for an allowed class, which may be of any kind
    name: str
    target: str  # module:Class
    package: str
    version: str
    error: str  # Why jobs cannot use it under its name; "" where nothing is known to be wrong
