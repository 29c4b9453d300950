"""The job that makes a trained model smaller, without labels or training (no torch)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import JobError, SelectionError, quoted
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import SearchJob, job_of
from nas.jobs.schema.data import TEXT
from nas.results.analysis.network_selection import names_network, parse_terms
from nas.search.problem.objectives import EXACT_METRICS, Objective
from nas.search.problem.tasks import AGREEMENT, CLASSIFICATION, IMITATION, SERVED_MEMORY
from supernets.networks.capture.model_names import HUB, is_function, is_onnx

CALIBRATION, VALIDATION, TEST = 256, 256, 256
"""Number of examples that networks are corrected on, compared on, and reported on."""
MINUTES = 2.5
"""Time of the search, after which the front is measured again."""
MAX_EVALUATIONS = 60
_BATCH = 16
"""Number of examples of a step of a later training: those of 224 pixels take a gigabyte."""
SOURCE = "compress"
"""The name of the job in errors."""
NORMALISATION = "{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"
"""An example for errors."""
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_TEXTS = (".txt", ".csv", ".tsv", ".jsonl", ".zip")
_MIN_IMAGES = 3
"""Images of a folder from which on it is no folder of sentences: one of each part."""
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
    if (is_function(model) or is_onnx(model)) and not of_text and "mean" not in data_options:
        fault = "has no record of how its images are normalised; give their mean and std, for pixels from 0 to 1"
        raise JobError(
            f"data_options: {model} {fault}, e.g. {NORMALISATION}", code="job.missing-key", parameter="data_options"
        )
    section: dict[str, Any] = {"name": TEXT if of_text else "image-folder", "path": str(data)}
    if not labels:
        section |= {"labels": "none", "examples": CALIBRATION + VALIDATION + TEST}
        section |= {"validation": 1 / 3, "test": 1 / 3}
    metric = metric or AGREEMENT
    # Sorted by weights, the default: with 256 examples, corrected networks agree more often than when sorted by gradients.
    supernet: dict[str, Any] = {"model": model, "sharing": {"correction": "least-squares"}}
    supernet |= {} if own_weights is None else {"weights": own_weights}
    supernet |= {} if not arguments else {"arguments": dict(arguments)}
    budget = (
        {"evaluations": MAX_EVALUATIONS, "minutes": MINUTES} if evaluations is None else {"evaluations": evaluations}
    )
    job = {
        "name": f"{SOURCE}-{name_of(model)}",
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
    return job_of(job, source=SOURCE).resolved(Path.cwd())


def check_limits(job: ResolvedJob, limits: str, *, solve: bool = False) -> None:
    """Checks limits before anything takes longer.

    Args:
        solve: Whether networks are solved for them, which then are on costs: measured ones or computed ones.

    Raises:
        NasError: they are malformed, or on what the job does not measure.
    """
    profiles = [profile.name for profile in job.profiles]
    if not solve:
        parse_terms(limits, profiles, job.metrics)
        return
    if names_network(limits):
        fault = "names a measured network; expected limits to solve for, e.g. latency_ms<=1.0"
        raise SelectionError(f"select {quoted(limits)} {fault}", code="selection.malformed", parameter="select")
    costs = [Objective.parse(name, profiles) for name in sorted(EXACT_METRICS - SERVED_MEMORY)]
    metrics = list(dict.fromkeys([*job.metrics, *costs]))
    if stray := [limit for limit in parse_terms(limits, profiles, metrics) if limit.objective.of_task]:
        names = ", ".join(metric.name for metric in metrics if not metric.of_task)
        text = (
            f"select {quoted(limits)}: {stray[0].objective.name} is no cost; networks are solved for limits on {names}"
        )
        raise SelectionError(text, code="selection.unknown-metric", parameter="select")


def _of_text(data: Path) -> bool:
    """Returns whether data are sentences; raises `JobError` for what is neither these nor images.

    A folder with images is one of images, whatever texts (captions, labels, a readme) are beside them.
    """
    if data.is_file():
        if data.suffix.lower() in _TEXTS:
            return True
        expected = f"a folder of images, or sentences: {', '.join(_TEXTS)}"
        raise JobError(f"{data}: is a file; expected {expected}", code="data.layout", parameter="data")
    if not data.is_dir():
        raise JobError(
            f"{data}: does not exist; expected a folder of images or of texts", code="data.missing", parameter="data"
        )
    n_images, has_texts = 0, False
    for path in data.rglob("*"):
        if any(part.startswith(".") for part in path.relative_to(data).parts):
            continue
        suffix = path.suffix.lower()
        n_images, has_texts = n_images + (suffix in _IMAGES), has_texts or suffix in _TEXTS
        if n_images == _MIN_IMAGES:
            return False
    if n_images or has_texts:
        return has_texts
    expected = f"images ({', '.join(_IMAGES)}) or texts ({', '.join(_TEXTS)})"
    raise JobError(f"{data}: holds none of what can be read; expected {expected}", code="data.layout", parameter="data")


def name_of(model: str) -> str:
    """A model's name in letters and digits, for the name of its job."""
    stem = Path(model).stem if "/" in model else model.removeprefix("torchvision:").removeprefix("timm:")
    return _NO_NAME.sub("-", stem).strip("-")[:_MAX_NAME] or "model"
