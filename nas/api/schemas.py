"""What the service says and understands, as JSON: the models of the API, for the server and its clients alike."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

RunStatusName = Literal["queued", "running", "finished", "failed", "cancelled"]
RunKind = Literal["search", "training"]
TaskStatusName = Literal["queued", "running", "finished", "failed"]


CurvePoint = Annotated[
    tuple[int, float],
    WithJsonSchema(
        {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "examples": [[60, 0.83]]}
    ),
]
"""(evaluations, hypervolume); described without tuples, which few generators of clients know."""


class Schema(BaseModel):
    """A frozen model that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FieldProblem(Schema):
    """What is wrong with one field of what was sent."""

    field: str
    """Its path, e.g. ``search.evaluations``; "" for the whole."""
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


class JobSubmission(Schema):
    """A job to run."""

    job: Annotated[
        str | dict[str, Any], Field(description="The job file: its text (YAML), or what it says as an object.")
    ]
    kind: Annotated[RunKind, Field(description="A search, or the training of its supernet alone.")] = "search"
    hardware: Annotated[
        tuple[str, ...] | None, Field(description="Hardware profiles, in place of the job's own.", max_length=16)
    ] = None


class JobCheck(Schema):
    """What is wrong with a job, before it is submitted."""

    ok: bool
    errors: tuple[FieldProblem, ...] = ()


class Recipe(Schema):
    """A ready job file."""

    name: str
    title: str
    job: str | None = None
    """Its text; None in lists."""


class RunSummary(Schema):
    """Where a run stands."""

    run: str
    name: str
    kind: RunKind
    status: RunStatusName
    reason: str
    """Why it ended, or what keeps it waiting; "" where there is nothing to say."""
    live: bool
    """Whether a driver has it now."""
    submitted: datetime | None
    """When, and by whom; None and "" where it was started by a command on the server's machine."""
    submitter: str
    queue_position: int | None
    """1 for the run that starts next; None for those that do not wait."""
    started: datetime | None
    ended: datetime | None
    evaluations: int
    evaluations_wanted: int
    epoch: int
    epochs: int
    """0 where the supernet was trained before."""


class RunsPage(Schema):
    """Some of the runs, the newest first."""

    total: int
    offset: int
    runs: tuple[RunSummary, ...]


class ObjectiveInfo(Schema):
    """What a search optimises, or is limited by."""

    name: str
    unit: str
    goal: Literal["maximize", "minimize"]


class ConstraintInfo(Schema):
    """A bound on a figure."""

    figure: str
    minimum: float | None
    maximum: float | None


class RunDetail(RunSummary):
    """A run, with what it is made of."""

    job: str
    """Its job file, as it was submitted."""
    objectives: tuple[ObjectiveInfo, ...]
    """Empty for a training, and until the run has begun."""
    constraints: tuple[ConstraintInfo, ...]
    profiles: tuple[str, ...]
    precisions: tuple[str, ...]
    algorithm: str | None
    front_size: int
    hypervolume: float | None
    """Of the front, in the objectives' units multiplied."""
    reference: dict[str, float]
    """Reference point of the hypervolume, by objective."""
    events: tuple[dict[str, Any], ...]
    """Warnings, retries and the like: the last 50."""


class Figure(Schema):
    """A figure with its error: one standard error (accuracy), the noise floor (latency), 0 (exact)."""

    value: float
    error: float


class Network(Schema):
    """One architecture with its figures."""

    key: str
    number: int | None
    """Its place on the run's front, from 0; None for others."""
    architecture: dict[str, Any]
    """Option values by the names of the choices."""
    figures: dict[str, Figure]
    source: Literal["measured", "predicted"]
    fidelity: Literal["search", "final"]
    test: Figure | None
    """Accuracy on the test part, which no search sees."""
    within_limits: bool
    """Whether it keeps the job's constraints."""


class Front(Schema):
    """A run's front, the cheapest first, and its two ends of the space."""

    run: str
    profile: str | None
    """None for the joint front of all profiles."""
    objectives: tuple[ObjectiveInfo, ...]
    members: tuple[Network, ...]
    smallest: Network | None
    largest: Network | None
    nearest: Network | None
    """What comes nearest to keeping the constraints where nothing keeps them."""


class NetworksPage(Schema):
    """Some of a run's evaluated networks."""

    run: str
    total: int
    offset: int
    networks: tuple[Network, ...]


class PredictorInfo(Schema):
    """How well one objective is predicted, by cross-validation, now and after each fit."""

    objective: str
    latest: dict[str, Any]
    history: tuple[dict[str, Any], ...]


class ComparedRun(Schema):
    """One run of a comparison."""

    run: str
    status: RunStatusName
    front: tuple[Network, ...]
    hypervolume: float | None
    """Of its front from the common reference point, in the common objectives."""
    curve: tuple[CurvePoint, ...]
    """(evaluations, hypervolume) as it went, from the common reference point."""


class Comparison(Schema):
    """Several searches in their common objectives."""

    objectives: tuple[ObjectiveInfo, ...]
    reference: dict[str, float]
    runs: tuple[ComparedRun, ...]


class ResumeRequest(Schema):
    """How much more a run may spend; empty to go on with what it had."""

    evaluations: Annotated[
        str | None, Field(description="A new budget, e.g. 150, or +50.", pattern=r"^\+?[0-9]{1,7}$")
    ] = None
    minutes: Annotated[
        str | None,
        Field(description="A new budget of minutes, e.g. 30, or +10.", pattern=r"^\+?[0-9]{1,6}(\.[0-9]{1,6})?$"),
    ] = None


class ExportRequest(Schema):
    """Which network to export: by limits, by its place on the front, or (neither) the front's knee."""

    select: Annotated[
        str | None, Field(max_length=500, description="e.g. latency_ms<=1.0; or key=0-2-1, the network of this key")
    ] = None
    index: Annotated[int | None, Field(ge=0, le=10**6)] = None


class FileInfo(Schema):
    """A file to download."""

    name: str
    bytes: int
    sha256: str


class Export(Schema):
    """An export, and its files once it is finished."""

    export: str
    run: str
    status: TaskStatusName
    reason: str
    submitted: datetime
    request: ExportRequest
    files: tuple[FileInfo, ...]
    result: dict[str, Any] | None
    """What `nas export --json` prints, less paths: the network, its figures, the parity with torch."""


class Drift(Schema):
    """The noise of a profile's measurements in one run: its sentinel's level and noise floor."""

    run: str
    time: datetime
    level_ms: float | None
    noise: float | None
    """Relative."""


class Profile(Schema):
    """A hardware profile."""

    name: str
    threads: int
    batch_size: int
    provider: str
    placement: dict[str, float]
    ssh: str
    description: str
    shipped: bool
    """False for one that was added here."""
    drift: tuple[Drift, ...] = ()
    """By run, oldest first; empty in lists."""


class ProfileUpload(Schema):
    """A hardware profile to add, as its YAML file."""

    profile: Annotated[str, Field(max_length=10_000)]


class ModelMeasurement(Schema):
    """The latency of an uploaded model on a profile, once it is finished."""

    measurement: str
    profile: str
    status: TaskStatusName
    reason: str
    submitted: datetime
    result: dict[str, Any] | None


class DataUpload(Schema):
    """An uploaded data set, and how a job file names it."""

    name: str
    path: str
    """For ``data: {name: image-folder, path: …}``."""
    images: int
    classes: tuple[str, ...]


class Health(Schema):
    """That the server answers, and which it is."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(Schema):
    """Whether jobs can be run now, by part: "ok", or what is wrong."""

    ready: bool
    parts: dict[str, str]
