"""The JSON models of jobs before they are runs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nas.service.api.schemas.common import FieldProblem, Schema

RunKind = Literal["search", "training"]
PriorityName = Literal["low", "normal", "high"]
"""Of a run that waits: low ones start after those of all people, high ones before."""


class WebhookRequest(Schema):
    """An address that is notified of the end of a run by a signed POST request."""

    url: str = Field(max_length=500, description="https:// or http://, without a user and a password.")
    secret: str = Field(
        min_length=16,
        max_length=200,
        description="The key of the signature, of at least 16 characters; not shown again.",
    )


class JobSubmission(Schema):
    """A job to run."""

    job: str | dict[str, Any] = Field(description="The job file: its text (YAML), or its content as an object.")
    kind: RunKind = Field(default="search", description="A search, or the training of its supernet alone.")
    hardware: tuple[str, ...] | None = Field(
        default=None, description="Hardware profiles, in place of the job's own.", max_length=16
    )
    webhook: WebhookRequest | None = Field(default=None, description="Is notified of the end of the run.")
    priority: PriorityName = Field(default="normal", description="Of the run in the queue; high is for administrators.")


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
    algorithm: str
    predictor: str | None
    takes_predictor: bool  # Of the algorithm
    hardware: tuple[str, ...]
    metrics: tuple[JobMetric, ...]


class JobCheck(Schema):
    """The errors in a job before it is submitted, and its usual settings."""

    ok: bool
    errors: tuple[FieldProblem, ...] = ()
    fields: JobFields | None = None  # None where the text cannot be read as a job


class JobEdit(Schema):
    """Changes of values in the text of a job file; comments and all other values stay."""

    job: str
    changes: dict[str, int | float | str | tuple[str, ...] | None] = Field(
        max_length=20, description="New values by path, e.g. `search.evaluations`; null removes a key."
    )


class EditedJob(Schema):
    """The text of a job file after changes."""

    job: str


class Recipe(Schema):
    """A built-in job file, and what it needs on this server."""

    name: str
    title: str
    job: str | None = None  # Its text; None in lists
    data_kind: str = ""  # The kind of uploaded data that it can be used with; "" for none
    model_kind: Literal["captured", "pretrained", ""] = ""  # The kind of uploaded model that it can be used with
    family: str = ""  # Of such a pretrained model
    # What has to be uploaded first; empty where it can be submitted as it is
    needs: dict[Literal["data", "model"], str] = Field(default={})


class Plugin(Schema):
    """A plug-in that submitted jobs may name: one that a package registers, or a class that the server's owner allows."""

    kind: str  # The end of its entry-point group, e.g. search; "" for an allowed class, which may be of any kind
    name: str
    target: str  # module:Class
    package: str
    version: str
    error: str  # Why jobs cannot use it under its name; "" where nothing is known to be wrong
