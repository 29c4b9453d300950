"""The JSON models of the REST API, for the server and its clients."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

RunKind = Literal["search", "training"]
TaskStatusName = Literal["queued", "running", "finished", "failed", "cancelled"]
RunStatusName = Literal["queued", "running", "finished", "failed", "cancelled"]
NetworkStatus = Literal["all", "front", "measured", "noisy", "too-noisy", "failed", "screened-out"]
"""A filter of evaluated networks: all, on the front, measured within the protocol's noise, measured with more noise than
that, without a value for the noise of the machine or for another reason, or skipped before all of their measurements."""
PriorityName = Literal["low", "normal", "high"]
"""Of a run that waits: low ones start after those of all people, high ones before."""
AuditOutcome = Literal["done", "denied", "failed"]
TaskKindName = Literal["export", "measurement", "plan", "cascade", "plots", "calibration"]
RunOrder = Literal["run", "data", "submitter", "status", "started", "evaluations", "accuracy", "latency_ms"]
"""What runs can be sorted by; accuracy and latency are the best of a run's front. Runs of other tasks are sorted by the task's
metric in place of the accuracy and come after those of classification, metric by metric; descending begins with the best."""

CurvePoint = Annotated[
    tuple[int, float],
    WithJsonSchema(
        {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "examples": [[60, 0.83]]}
    ),
]
"""(evaluations, hypervolume); described without tuples, which few client generators support."""


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
    """A built-in job file, and what it needs on this server."""

    name: str
    title: str
    job: str | None = None  # Its text; None in lists
    data_kind: str = ""  # The kind of uploaded data that it can be used with; "" for none
    model_kind: Literal["captured", "pretrained", ""] = ""  # The kind of uploaded model that it can be used with
    family: str = ""  # Of such a pretrained model
    needs: dict[
        Literal["data", "model"], str
    ] = {}  # What has to be uploaded first; empty where it can be submitted as it is


class Plugin(Schema):
    """A plug-in that submitted jobs may name: one that a package registers, or a class that the server's owner allows."""

    kind: str  # The end of its entry-point group, e.g. search; "" for an allowed class, which may be of any kind
    name: str
    target: str  # module:Class
    package: str
    version: str
    error: str  # Why jobs cannot use it under its name; "" where nothing is known to be wrong


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


class ObjectiveInfo(Schema):
    """An objective or a constrained metric of a search."""

    name: str
    unit: str
    goal: Literal["maximize", "minimize"]


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


class Figure(Schema):
    """A value with its error: one standard error (accuracy), the noise floor (latency), 0 (exact)."""

    value: float
    error: float


class Network(Schema):
    """One architecture with its metrics."""

    key: str
    number: int | None  # Its position on the run's front, from 0; None for others
    architecture: dict[str, Any]  # Option values by the names of the choices
    figures: dict[str, Figure]
    source: Literal["measured", "predicted"]
    fidelity: Literal["search", "final"]
    test: Figure | None  # Accuracy on the test split, which no search uses
    within_limits: bool  # Whether it satisfies the job's constraints
    status: Literal["measured", "noisy", "too-noisy", "failed", "screened-out", ""] = (
        ""  # In lists of evaluated networks
    )
    reason: str = ""  # Why it failed or was screened out
    evaluation: int | None = None  # Its number in the order of evaluation, from 1; in lists of evaluated networks


class Front(Schema):
    """A run's front, the cheapest first, and the smallest and largest networks of its space."""

    run: str
    profile: str | None  # None for the joint front of all profiles
    objectives: tuple[ObjectiveInfo, ...]
    members: tuple[Network, ...]
    smallest: Network | None
    largest: Network | None
    nearest: Network | None  # The network with the least violation of the constraints where none satisfies them


class NetworksPage(Schema):
    """Some of a run's evaluated networks."""

    run: str
    total: int
    offset: int
    networks: tuple[Network, ...]


class EpochInfo(Schema):
    """One epoch of a training: scores by the training's metric and losses on validation examples; None where not recorded."""

    epoch: int
    loss: float | None  # Of the training
    largest: float | None
    smallest: float | None
    largest_loss: float | None
    smallest_loss: float | None
    seconds: float | None


class Training(Schema):
    """The training of a run's supernet, by epoch."""

    epochs: int
    history: tuple[EpochInfo, ...]
    best: int | None  # The epoch whose weights are kept; None where the last one's are
    metric: ObjectiveInfo  # What the largest and the smallest network are scored by: the first metric of the run's task
    title: str  # Of the metric, for people, with the unit that it is shown in


class PredictorInfo(Schema):
    """How well one objective is predicted, by cross-validation, now and after each fit."""

    objective: str
    latest: dict[str, Any]
    history: tuple[dict[str, Any], ...]


class StepModel(Schema):
    """The model of one metric in one step of a search."""

    kendall_tau: float | None  # Cross-validated rank agreement
    weights: dict[str, float]  # Of every model in the mean, by name, the largest first; they sum to 1


class SearchStep(Schema):
    """One step of a search; without numbers of candidates and without models where its networks were not chosen by models."""

    step: int  # From 0, which evaluates the smallest, the largest and the known networks
    proposed: int  # Networks that were asked for
    measured: int  # Of these, those with a value of every metric
    generations: int | None  # Of the evolution over predictions; 0 where a small space was listed
    bred: int | None  # Networks of these generations
    candidates: int | None  # Different ones that were not known before
    models: dict[str, StepModel]  # By name of the metric


class SearchSteps(Schema):
    """Some of the steps of a search; none of searches without models, and of runs of earlier versions."""

    run: str
    total: int
    offset: int
    steps: tuple[SearchStep, ...]


class ComparedRun(Schema):
    """One run of a comparison."""

    run: str
    status: RunStatusName
    front: tuple[Network, ...]
    hypervolume: float | None  # Of its front from the common reference point, in the common objectives
    curve: tuple[CurvePoint, ...]  # (evaluations, hypervolume) over the search, from the common reference point


class CommonMember(Schema):
    """A member of the common front of several searches, which is on the front of one of them."""

    run: str
    key: str


class JobDifference(Schema):
    """A key in which the job files of several runs differ."""

    key: str  # Its path, e.g. ``search.evaluations``
    values: dict[str, str | None]  # By run, as YAML; null where the job has no such key


class Comparison(Schema):
    """Several searches in their common objectives."""

    objectives: tuple[ObjectiveInfo, ...]
    reference: dict[str, float]
    runs: tuple[ComparedRun, ...]
    common_front: tuple[CommonMember, ...] = ()  # The cheapest first; empty where there are obstacles
    obstacles: tuple[str, ...] = ()  # Why values of the runs cannot be compared
    job_differences: tuple[JobDifference, ...] = ()


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


class ExportRequest(Schema):
    """The network to export: by limits, by its position on the front, or (neither) the front's knee."""

    select: str | None = Field(
        default=None, max_length=500, description="e.g. latency_ms<=1.0; or key=0-2-1, the network of this key"
    )
    index: int | None = Field(default=None, ge=0, le=10**6)
    with_preprocessing: bool = Field(
        default=False,
        description="Whether the graph takes decoded images of any size, and resizes and normalises them.",
    )


class FinetuningRequest(Schema):
    """The network of a search to fine-tune, as in an export, and the training."""

    select: str | None = Field(default=None, max_length=500, description="As in an export, e.g. latency_ms<=1.0")
    index: int | None = Field(default=None, ge=0, le=10**6)
    epochs: int = Field(default=5, ge=1, le=10**6)
    learning_rate: float | None = Field(
        default=None, gt=0, le=100, description="The peak; null for a tenth of the supernet's."
    )


class CascadeRequest(Schema):
    """The cascades of a run's front, from its validation part; with a row, that cascade exported as ONNX."""

    kind: Literal["cascade"]
    profile: str | None = Field(
        default=None, max_length=80, description="The hardware profile whose latencies count; null for the first."
    )
    row: int | None = Field(default=None, ge=0, le=10**6, description="A cascade by its number in the table.")
    test: bool = Field(default=False, description="With a row: score that cascade on the test part, too.")


class PlotsRequest(Schema):
    """The pictures and the interactive page of a run."""

    kind: Literal["plots"]
    select: str | None = Field(
        default=None, max_length=500, description="Limits to draw, with the front within them, e.g. latency_ms<=1.0"
    )
    experts: bool = Field(default=False, description="Only the experts of one network, which `select` chooses.")


class CalibrationRequest(Schema):
    """A table of the latencies of the blocks of a run's job on a hardware profile."""

    kind: Literal["calibration"]
    profile: str = Field(max_length=80, description="The hardware profile to measure on.")
    subnets: int = Field(default=30, ge=3, le=10_000, description="Whole networks to fit the scale of the table.")
    tables: tuple[str, ...] = Field(
        default=(), max_length=20, description="Tables of other profiles, from which the blocks are predicted."
    )
    samples: int = Field(default=10, ge=4, le=10_000, description="With tables: networks to measure.")


ArtifactRequest = Annotated[CascadeRequest | PlotsRequest | CalibrationRequest, Field(discriminator="kind")]


class Task(Schema):
    """An export, a measurement, a plan or an artifact of a run, which a process of its own makes."""

    task: str  # The id of the export, the measurement, the plan or the artifact
    kind: TaskKindName
    of: str  # The run, or the hardware profile; "jobs" for a plan
    status: TaskStatusName
    reason: str
    submitted: datetime
    time_limit_s: float | None = None  # It has failed when its command takes longer
    submitter: str = ""  # The name of the token; "" where none is needed


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
    time_limit_s: float | None = None
    request: ExportRequest
    files: tuple[FileInfo, ...]
    result: dict[str, Any] | None
    """The output of `nas export --json` without paths: the network, its metrics, the parity with torch."""


class Artifact(Schema):
    """Cascades, plots or a table of latencies of a run, with its files once it is finished."""

    artifact: str
    run: str
    status: TaskStatusName
    reason: str
    submitted: datetime
    time_limit_s: float | None = None
    request: ArtifactRequest
    files: tuple[FileInfo, ...]
    table: str | None = None  # Of a finished calibration: its name in `lookup_tables` of job files
    result: dict[str, Any] | None
    """What the command prints with --json, without paths: `nas cascade`, `nas plot` or `nas calibrate`."""


class Drift(Schema):
    """The noise of a profile's measurements in one run: its sentinel's level and A/A difference."""

    run: str
    time: datetime
    level_ms: float | None
    noise: float | None  # The A/A difference of two equal sentinels, relative


class Profile(Schema):
    """A hardware profile."""

    name: str
    threads: int
    batch_size: int
    provider: str
    runtime: str = "onnxruntime"
    placement: dict[str, float]
    ssh: str
    description: str
    shipped: bool  # False for one that was added here
    owner: str = ""  # As that of a data set
    unavailable: str = ""  # Why nothing can be measured on it now; "" where that is possible, or not known
    drift: tuple[Drift, ...] = ()  # By run, oldest first; empty in lists


class ProfileUpload(Schema):
    """A hardware profile to add, as its YAML file."""

    profile: str = Field(max_length=10_000)


class ModelMeasurement(Schema):
    """The latency of an uploaded model on a profile, once it is finished."""

    measurement: str
    profile: str
    status: TaskStatusName
    reason: str
    submitted: datetime
    time_limit_s: float | None = None
    result: dict[str, Any] | None


class DataUpload(Schema):
    """An uploaded data set, and how a job file names it."""

    name: str
    path: str  # For ``data: {name: KIND, path: …}``
    images: int  # 0 for data of another kind
    classes: tuple[str, ...]  # Or labels; empty where there are none
    kind: str = "image-folder"  # For ``data: {name: …}``
    task: str = "classification"  # For ``task: …``
    options: dict[str, str | bool] = {}  # Further keys of the job's data section
    examples: int = 0
    noun: str = "image"  # The word for an example
    checked: str = ""  # What of it was read when it was uploaded


class DataSet(DataUpload):
    """A data set that the server stores."""

    bytes: int
    uploaded: datetime
    short_side: float | None = None  # The median of its images' short sides, in pixels
    owner: str = ""  # The name of the token that uploaded it; "" for none, which is the administrators'


class CapturedModel(Schema):
    """A captured model or a pretrained network that the server stores, and how a job file names it."""

    name: str
    path: str  # For ``supernet: {model: …}``, or ``supernet: {pretrained: …}``
    bytes: int
    uploaded: datetime
    kind: Literal["captured", "pretrained"] = "captured"
    family: str = ""  # Of a pretrained network, for ``supernet: {family: …}``
    parameters: int | None = None  # Of a pretrained network
    owner: str = ""  # As that of a data set


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
