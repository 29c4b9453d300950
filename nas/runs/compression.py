"""Makes a trained model smaller without labels or training: a job as any other, its run, and the network for some limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nas.jobs
from nas.engine.store.base import RunStatus
from nas.engine.store.opening import is_held
from nas.errors import JobError
from nas.jobs.resolve.references import check_references, check_training
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, job_of
from nas.jobs.schema.data import TEXT
from nas.results.analysis.network_selection import parse_terms
from nas.runs.driver import resume, start
from nas.runs.run import Run
from nas.search.problem.tasks import AGREEMENT, CLASSIFICATION, IMITATION
from supernets.networks.capture.model_names import HUB, is_function

CALIBRATION, VALIDATION, TEST = 256, 256, 256
"""Number of examples that networks are corrected on, compared on, and reported on."""
MINUTES = 2.5
"""Time of the search, after which the front is measured again."""
MAX_EVALUATIONS = 60
_BATCH = 16
"""Number of examples of each gradient by which units are sorted: small batches serve best, and take little memory."""
_SOURCE = "compress"
_NORMAL = "{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_TEXTS = (".txt", ".csv", ".tsv", ".jsonl", ".zip")
_NO_NAME = re.compile(r"[^A-Za-z0-9]+")
_MAX_NAME = 40


def compression_job(
    model: str,
    data: Path,
    *,
    labels: bool = False,
    profile: str = "cpu-1-thread",
    metric: str | None = None,
    evaluations: int | None = None,
    weights: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
) -> SearchJob:
    """The job whose run finds smaller versions of a model: corrected, compared with it, and timed.

    Args:
        model: The model as in ``supernet.model``.
        data: A folder of images, or a file or folder of sentences.
        labels: True to report the accuracy, too: the folders of images (or the labels of sentences) are the model's classes,
            sorted by name.
        profile: Hardware profile on which networks are timed.
        metric: ``agreement`` or ``r2``; None for the agreement.
        evaluations: Number of networks to measure; None for as many as a few minutes allow.
        weights, arguments: see ``supernet``; of models of torchvision and timm the library's weights by default.
        data_options: Further keys of ``data``, which replace those that are chosen here.

    Raises:
        JobError: a value is invalid, or the data are missing.
    """
    of_text, own_weights, data_options = _of_text(data), weights, dict(data_options or {})
    if weights is None and model.startswith(("torchvision:", "timm:")):
        own_weights = HUB
    if is_function(model) and not of_text and "mean" not in data_options:
        fault = "has no record of how its images are normalised; give their mean and std, for pixels from 0 to 1"
        raise JobError(
            f"data_options: {model} {fault}, e.g. {_NORMAL}", code="job.missing-key", parameter="data_options"
        )
    section: dict[str, Any] = {"name": TEXT if of_text else "image-folder", "path": str(data)}
    if not labels:
        section |= {"labels": "none", "examples": CALIBRATION + VALIDATION + TEST}
        section |= {"validation": 1 / 3, "test": 1 / 3}
    metric = metric or AGREEMENT
    sort = "taylor" if metric == AGREEMENT else "weights"
    supernet = {"model": model, "sort": sort, "sharing": {"correction": "least-squares"}}
    supernet |= {} if own_weights is None else {"weights": own_weights}
    supernet |= {} if not arguments else {"arguments": dict(arguments)}
    budget = (
        {"evaluations": MAX_EVALUATIONS, "minutes": MINUTES} if evaluations is None else {"evaluations": evaluations}
    )
    job = {
        "name": f"{_SOURCE}-{_name(model)}",
        "data": {**section, **data_options},
        "task": CLASSIFICATION.name if labels else IMITATION,
        "supernet": supernet,
        "training": {"epochs": 0, "batch_size": _BATCH},
        "hardware": [profile],
        "objectives": [metric, "latency_ms"],
        "constraints": {"accuracy": {"min": 0.0}} if labels else {},
        "search": {"batch": 4, **budget},
        "calibration_images": CALIBRATION,
    }
    return job_of(job, source=_SOURCE).resolved(Path.cwd())


def check_limits(job: ResolvedJob, limits: str) -> None:
    """Raises `NasError` for limits that are malformed, or on what the job does not measure, before anything takes longer."""
    parse_terms(limits, [profile.name for profile in job.profiles], job.metrics)


def compressed_run(job: SearchJob, options: RunOptions) -> tuple[Run, bool]:
    """The finished run of a job, and whether it was there already: an equal job's run is continued, or taken as it is.

    Raises:
        NasError: the job cannot be done, or another process has its run.
    """
    for run in _runs_of(job, options):
        with run.store() as store:
            status, begun = store.status(), store.facts() is not None
        if status is RunStatus.FINISHED:
            return run, True
        if begun and not is_held(run.folder):
            return resume(run.id, options), True
    resolved = ResolvedJob(job, options.runs, _SOURCE, options.objects)
    check_references(resolved)
    check_training(resolved, "search", inline=options.inline)
    return start(resolved, options, "search"), False


def _runs_of(job: SearchJob, options: RunOptions) -> list[Run]:
    """The runs of an equal job that are newer than the files of its model and its data, the latest first."""
    changed, text = _changed(job), job.to_yaml()
    folders = [f for f in options.runs.list() if f.id.rpartition("-")[0] == job.name]
    runs = [Run(folder, options.runs) for folder in folders if folder.written > changed]
    return [run for run in runs[::-1] if nas.jobs.stored_job(run).to_yaml() == text]


def _changed(job: SearchJob) -> int:
    """The last change of the files of a model and its data, in nanoseconds since the epoch."""
    supernet, data = job.supernet, job.data.path
    names = [
        text.partition("transformers:")[2] or text for text in (supernet.model, supernet.weights) if text is not None
    ]
    if is_function(str(supernet.model)) and (spec := find_spec(str(supernet.model).partition(":")[0])) is not None:
        names.append(str(spec.origin))
    paths = [Path(name) for name in names if Path(name).exists()]
    if data is not None and data.exists():
        paths += [data, *(path for path in data.iterdir() if path.is_dir())] if data.is_dir() else [data]
    return max((path.stat().st_mtime_ns for path in paths), default=0)


def _of_text(data: Path) -> bool:
    """Returns whether data are sentences; raises `JobError` for what is neither these nor images."""
    if data.is_file():
        if data.suffix.lower() in _TEXTS:
            return True
        expected = f"a folder of images, or sentences: {', '.join(_TEXTS)}"
        raise JobError(f"{data}: is a file; expected {expected}", code="data.layout", parameter="data")
    if not data.is_dir():
        raise JobError(
            f"{data}: does not exist; expected a folder of images or of texts", code="data.missing", parameter="data"
        )
    for path in data.rglob("*"):
        suffix = path.suffix.lower()
        if suffix in _IMAGES or suffix in _TEXTS:
            return suffix in _TEXTS
    expected = f"images ({', '.join(_IMAGES)}) or texts ({', '.join(_TEXTS)})"
    raise JobError(f"{data}: holds none of what can be read; expected {expected}", code="data.layout", parameter="data")


def _name(model: str) -> str:
    """A model's name in letters and digits, for the name of its job."""
    stem = Path(model).stem if "/" in model else model.removeprefix("torchvision:").removeprefix("timm:")
    return _NO_NAME.sub("-", stem).strip("-")[:_MAX_NAME] or "model"
