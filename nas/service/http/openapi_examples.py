"""Examples of the API's description: one validated value of each schema."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from nas.api import schemas
from nas.api.error_codes import problem_type

_RUN, _PROFILE, _LATENCY = "digits-cnn-1", "cpu-1-thread", "latency_ms@cpu-1-thread"
_JOB = "name: digits-cnn\ndata: {name: digits}\nsupernet: {preset: digits}\nsearch: {evaluations: 60}\n"
_NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def examples() -> dict[str, list[Any]]:
    """An example of each schema, as JSON, by the schema's name."""
    return {type(value).__name__: [value.model_dump(mode="json")] for value in _values()}


def _values() -> Iterator[BaseModel]:
    wrong = schemas.FieldProblem(field="search.evaluations", message="expected a whole number of at least 2, got -6")
    yield wrong
    yield schemas.Problem(
        type=problem_type("run.unknown"), title="Not Found", status=404, instance="/api/v1/runs/digits-cnn-7",
        detail=f"unknown run 'digits-cnn-7'; did you mean {_RUN!r}? Known: {_RUN}.",
    )  # fmt: skip
    yield schemas.JobSubmission(job=_JOB, hardware=(_PROFILE,))
    yield schemas.JobCheck(ok=False, errors=(wrong,))
    yield schemas.Recipe(name="digits-cnn", title="Small CNNs for handwritten digits", job=_JOB)
    yield from _runs()
    yield from _results()
    yield schemas.ResumeRequest(evaluations="+50")
    yield from _exports()
    yield from _hardware()
    yield schemas.DataUpload(name="flowers", path="uploads/flowers", images=300, classes=("rose", "tulip"))
    yield schemas.Health(version="0.1.0")
    yield schemas.Readiness(ready=True, parts={"runs": "ok", "state": "ok", "jobs": "ok"})


def _runs() -> Iterator[BaseModel]:
    run = schemas.RunSummary(
        run=_RUN, name="digits-cnn", kind="search", status="running", reason="", live=True, submitted=_NOON,
        submitter="ada", queue_position=None, started=_NOON + timedelta(seconds=9), ended=None, evaluations=24,
        evaluations_wanted=60, epoch=12, epochs=12,
    )  # fmt: skip
    yield run
    yield schemas.RunsPage(total=1, offset=0, runs=(run,))
    accuracy, latency = _objectives()
    yield accuracy
    limit = schemas.ConstraintInfo(figure=_LATENCY, minimum=None, maximum=0.5)
    yield limit
    yield schemas.RunDetail(
        **run.model_dump(), job=_JOB, objectives=(accuracy, latency), constraints=(limit,), profiles=(_PROFILE,),
        precisions=("fp32",), algorithm="guided", front_size=7, hypervolume=0.83,
        reference={"accuracy": 0.71, _LATENCY: 0.61}, events=({"kind": "retried", "time": _NOON.timestamp(), "detail": {}},),
    )  # fmt: skip


def _objectives() -> tuple[schemas.ObjectiveInfo, schemas.ObjectiveInfo]:
    return (
        schemas.ObjectiveInfo(name="accuracy", unit="share", goal="maximize"),
        schemas.ObjectiveInfo(name=_LATENCY, unit="ms", goal="minimize"),
    )


def _results() -> Iterator[BaseModel]:
    accuracy = schemas.Figure(value=0.967, error=0.008)
    yield accuracy
    network = schemas.Network(
        key="1-0-2-x", number=0, architecture={"stage1.depth": 2, "stage1.width": 16},
        figures={"accuracy": accuracy, _LATENCY: schemas.Figure(value=0.021, error=0.0004)}, source="measured",
        fidelity="final", test=schemas.Figure(value=0.958, error=0.009), within_limits=True,
    )  # fmt: skip
    yield network
    yield schemas.Front(
        run=_RUN,
        profile=None,
        objectives=_objectives(),
        members=(network,),
        smallest=network,
        largest=None,
        nearest=None,
    )
    yield schemas.NetworksPage(run=_RUN, total=60, offset=59, networks=(network,))
    quality = {"model": "lightgbm on ridge", "kendall_tau": 0.87, "mape": 0.021, "coverage": 0.91, "n": 60}
    yield schemas.PredictorInfo(objective=_LATENCY, latest=quality, history=({"step": 4, "kendall_tau": 0.87},))
    compared = schemas.ComparedRun(
        run=_RUN, status="finished", front=(network,), hypervolume=0.83, curve=((10, 0.61), (60, 0.83))
    )
    yield compared
    yield schemas.Comparison(objectives=_objectives(), reference={"accuracy": 0.71, _LATENCY: 0.61}, runs=(compared,))


def _exports() -> Iterator[BaseModel]:
    asked = schemas.ExportRequest(select="latency_ms<=1.0")
    yield asked
    file = schemas.FileInfo(name="model.onnx", bytes=41_326, sha256=_SHA256)
    yield file
    yield schemas.Export(
        export="0f3a5c7e", run=_RUN, status="finished", reason="", submitted=_NOON, request=asked, files=(file,),
        result={"precision": "fp32", "fidelity": "final", "parity": 3e-07},
    )  # fmt: skip


def _hardware() -> Iterator[BaseModel]:
    drift = schemas.Drift(run=_RUN, time=_NOON, level_ms=0.0312, noise=0.011)
    yield drift
    yield schemas.Profile(
        name="pi5", threads=4, batch_size=1, provider="CPUExecutionProvider", placement={"hw-pi5": 1}, ssh="",
        description="Raspberry Pi 5, 8 GB", shipped=False, drift=(drift,),
    )  # fmt: skip
    yield schemas.ProfileUpload(profile="name: pi5\nthreads: 4\nplacement: {hw-pi5: 1}\n")
    yield schemas.ModelMeasurement(
        measurement="0f3a5c7e", profile=_PROFILE, status="finished", reason="", submitted=_NOON,
        result={"latency_ms": 1.52, "resolution": 0.011, "p50_ms": 1.6, "peak_mib": 41.2, "samples": 1200},
    )  # fmt: skip
