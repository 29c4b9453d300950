"""The JSON models of runs and of the queue."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from nas.service.api.schemas.common import ObjectiveInfo, Offset, Query, Schema
from nas.service.api.schemas.jobs import PriorityName, RunKind

RunStatusName = Literal["queued", "running", "finished", "failed", "cancelled"]
RunOrder = Literal["run", "data", "submitter", "status", "started", "evaluations", "accuracy", "latency_ms"]
"""What runs can be sorted by; accuracy and latency are the best of a run's front. Runs of other tasks are sorted by the task's
metric in place of the accuracy and come after those of classification, metric by metric; descending begins with the best."""


class EvaluationCounts(Schema):
    """Numbers of evaluated networks; each counts once, under its worst result."""

    measured: int = 0
    noisy: int = 0  # Measured, with the wider error of a noisy machine
    screened_out: int = 0  # Skipped early, in runs of earlier versions
    too_noisy: int = 0  # Without a value: the noise of the machine exceeded what is accepted
    failed: int = 0  # Without a value for any other reason


class RunSummary(Schema):
    """The status and progress of a run."""

    run: str
    name: str
    kind: RunKind
    status: RunStatusName
    reason: str  # Why it ended, or why it waits; "" where there is no reason
    live: bool  # Whether it has a driver now
    submitted: datetime | None
    """When, and with which token; None and "" where a command on the server's machine started it."""
    submitter: str
    queue_position: int | None  # 1 for the run that starts next; None for those that are not queued
    priority: PriorityName = "normal"
    started: datetime | None
    ended: datetime | None
    evaluations: int  # Of the budget, failed ones included
    evaluations_wanted: int
    known: int = 0  # Networks that a warm start knew, which are evaluated beside the budget
    counts: EvaluationCounts = EvaluationCounts()  # Of the evaluations and the known networks
    epoch: int
    epochs: int  # 0 where the job starts from a trained supernet
    step: int = 0  # Training steps done, of the number to do; 0 before the first
    steps: int = 0
    expected_end: datetime | None = None  # When its present phase ends at its pace; None where that is not known
    next_try: datetime | None = (
        None  # When the server tries again whether a machine is back that was away; None where none is
    )
    damaged: bool = False  # Whether it cannot be read, for its reason; it can be deleted, and not resumed
    data: str = ""  # The name of its data set, or of the data's folder or file; "" where the job file is damaged
    tags: tuple[str, ...] = ()  # Of its users, see `RunLabels`
    note: str = ""


class RunLabels(Schema):
    """The tags and the note of a run, in place of those that it has."""

    tags: tuple[str, ...] = Field(
        default=(), max_length=20, description="Distinct words of at most 40 letters, digits and . _ + -"
    )
    note: str = Field(default="", max_length=2000)


class RunsQuery(Query):
    """A filter, an order and a page of the runs; None in a filter lets all through."""

    status: RunStatusName | None = Field(default=None, description="Only runs of this status.")
    kind: RunKind | None = Field(default=None, description="Only runs of this kind.")
    name: str | None = Field(default=None, max_length=80, description="A part of the run's id.")
    tag: str | None = Field(default=None, max_length=40, description="Only runs with this tag.")
    data: str | None = Field(default=None, max_length=200, description="Only runs on this data.")
    submitter: str | None = Field(default=None, max_length=80, description="Only runs of this token.")
    min_accuracy: float | None = Field(
        default=None, ge=0, le=1, description="Only runs whose front reaches this accuracy, 0 to 1."
    )
    max_latency_ms: float | None = Field(default=None, ge=0, description="Only runs whose front reaches this latency.")
    sort: RunOrder | None = Field(default=None, description="By default, the newest first.")
    descending: bool = Field(default=False, description="The largest first.")
    offset: Offset = 0
    limit: int = Field(default=50, ge=1, le=1000, description="How many at most.")


class QueuedRun(Schema):
    """A run that waits."""

    run: str
    submitter: str
    submitted: datetime
    position: int  # 1 for the run that starts next
    placed: bool  # Whether an administrator put it there
    priority: PriorityName
    expected_start: datetime | None  # None where the duration of a run before it is not known
    expected_s: float | None  # Its expected duration
    basis: str  # What the expected duration is based on


class ActiveRun(Schema):
    """A run that has a driver."""

    run: str
    submitter: str
    expected_end: datetime | None  # None where its duration is not known
    basis: str  # As of a `QueuedRun`


class Queue(Schema):
    """The runs that run and wait, those that wait in the order in which they start."""

    at_once: int  # Runs that may have a driver at the same time
    at_once_of_person: int | None
    active: tuple[ActiveRun, ...]
    waiting: tuple[QueuedRun, ...]


class QueueChange(Schema):
    """Another priority or position of a run that waits; what is left out stays."""

    priority: PriorityName | None = Field(default=None, description="A higher one is for administrators.")
    position: int | None = Field(
        default=None,
        ge=0,
        description="For administrators: 1 for the run that starts next; 0 returns the run to its turn.",
    )


class RunsPage(Schema):
    """Some of the runs, in the order requested."""

    total: int
    offset: int
    runs: tuple[RunSummary, ...]


class ConstraintInfo(Schema):
    """A bound on a metric."""

    figure: str
    minimum: float | None
    maximum: float | None


class RunDetail(RunSummary):
    """A run with its job, objectives, front and events."""

    job: str  # Its job file, as it was submitted
    objectives: tuple[ObjectiveInfo, ...]  # Empty for a training, and until the run has begun
    constraints: tuple[ConstraintInfo, ...]
    profiles: tuple[str, ...]
    precisions: tuple[str, ...]
    runtimes: tuple[str, ...] = ()
    algorithm: str | None
    predictor: str | None = None  # That the job gives the algorithm
    models_from: int | None = None
    """The number of the first evaluation that models chose, or will choose if none before it fails; None for an algorithm
    without models."""
    front_size: int
    hypervolume: float | None  # Of the front, in the objectives' units multiplied
    reference: dict[str, float]  # Reference point of the hypervolume, by objective
    events: tuple[dict[str, Any], ...]  # Warnings, retries and the like: the last 50


class ResumeRequest(Schema):
    """The changes of a resume: a larger budget, and whether failures are measured again; empty to continue as the run is."""

    evaluations: str | None = Field(
        default=None, description="A new budget, e.g. 150, or +50.", pattern=r"^\+?[0-9]{1,7}$"
    )
    minutes: str | None = Field(
        default=None, description="A new budget of minutes, e.g. 30, or +10.", pattern=r"^\+?[0-9]{1,6}(\.[0-9]{1,6})?$"
    )
    retry_failed: bool = Field(
        default=False, description="Measure again what failed or was too noisy, also in a finished run."
    )


class FinetuningRequest(Schema):
    """The network of a search to fine-tune, as in an export, and the training."""

    select: str | None = Field(default=None, max_length=500, description="As in an export, e.g. latency_ms<=1.0")
    index: int | None = Field(default=None, ge=0, le=10**6)
    epochs: int = Field(default=5, ge=1, le=10**6)
    learning_rate: float | None = Field(
        default=None, gt=0, le=100, description="The peak; null for a tenth of the supernet's."
    )
