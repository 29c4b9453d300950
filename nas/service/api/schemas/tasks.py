"""The JSON models of tasks, and of what they make: exports, artifacts, plans and measurements."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from nas.results.export.format_names import FORMATS, ONNX, FormatName
from nas.service.api.schemas.common import Schema

TaskStatusName = Literal["queued", "running", "finished", "failed", "cancelled"]
TaskKindName = Literal["export", "measurement", "plan", "cascade", "plots", "calibration"]


class TaskState(Schema):
    """The state of a task."""

    status: TaskStatusName
    reason: str
    submitted: datetime
    time_limit_s: float | None = None  # It has failed when its command takes longer


class Task(TaskState):
    """An export, a measurement, a plan or an artifact of a run, which a process of its own makes."""

    task: str  # The id of the export, the measurement, the plan or the artifact
    kind: TaskKindName
    of: str  # The run, or the hardware profile; "jobs" for a plan
    submitter: str = ""  # The name of the token; "" where none is needed


class JobPlan(TaskState):
    """The plan of a job: the size and the costs of its space, and an estimate of the time, once it is finished."""

    plan: str
    result: dict[str, Any] | None  # The output of `nas plan --json`


class ExportRequest(Schema):
    """The network to export: by limits, by its position on the front, or (neither) the front's knee."""

    select: str | None = Field(
        default=None, max_length=500, description="e.g. latency_ms<=1.0; or key=0-2-1, the network of this key"
    )
    index: int | None = Field(default=None, ge=0, le=10**6)
    format: FormatName = Field(
        default=ONNX, description="; ".join(f"{name}: {text}" for name, text in FORMATS.items()) + "."
    )
    with_preprocessing: bool = Field(
        default=False,
        description="Whether the graph takes decoded images of any size, and resizes and normalises them.",
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


class FileInfo(Schema):
    """A file to download."""

    name: str
    bytes: int
    sha256: str


class Export(TaskState):
    """An export, and its files once it is finished."""

    export: str
    run: str
    request: ExportRequest
    files: tuple[FileInfo, ...]
    result: dict[str, Any] | None
    """The output of `nas export --json` without paths: the network, its metrics, the parity with torch."""


class Artifact(TaskState):
    """Cascades, plots or a table of latencies of a run, with its files once it is finished."""

    artifact: str
    run: str
    request: ArtifactRequest
    files: tuple[FileInfo, ...]
    table: str | None = None  # Of a finished calibration: its name in `lookup_tables` of job files
    result: dict[str, Any] | None
    """What the command prints with --json, without paths: `nas cascade`, `nas plot` or `nas calibrate`."""


class ModelMeasurement(TaskState):
    """The latency of an uploaded model on a profile, once it is finished."""

    measurement: str
    profile: str
    result: dict[str, Any] | None
