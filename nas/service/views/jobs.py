"""Jobs before they are runs: plug-ins that they may name, and their usual settings as fields of a form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from nas.errors import JobError
from nas.jobs.build.plugin_listing import installed_plugins
from nas.jobs.schema import SearchJob, is_profile_path, parse_job
from nas.jobs.schema.job_edit import Path, edit_job
from nas.plugins import Kind, known_names
from nas.plugins.reference import owner
from nas.search.algorithms import ALGORITHMS, PREDICTED
from nas.search.problem.objectives import TIMED_METRICS, Goal, Objective, known_objectives
from nas.search.problem.tasks import SHIPPED
from nas.service.api import schemas
from predictors.registry import PREDICTORS

_SOURCE = "job"


def plugins(allowed: Sequence[str]) -> tuple[schemas.Plugin, ...]:
    """The plug-ins that installed packages register, then the classes that the server's owner allows; none is imported."""
    listed = [schemas.Plugin(**plugin.to_json()) for plugin in installed_plugins(loaded=False)]
    for target in allowed:
        package, version = owner(target.partition(":")[0])
        listed.append(schemas.Plugin(kind="", name=target, target=target, package=package, version=version, error=""))
    return tuple(listed)


def names() -> dict[str, list[str]]:
    """The search algorithms and predictors that a job can name, shipped and registered ones."""
    shipped = {Kind.SEARCH: ALGORITHMS, Kind.PREDICTORS: PREDICTORS}
    return {kind.value: known_names(kind, names) for kind, names in shipped.items()}


def fields_of(job: SearchJob) -> schemas.JobFields:
    """The fields of a job; no metrics where a profile is a file, whose name is not known here."""
    by_name = not any(map(is_profile_path, job.hardware))
    return schemas.JobFields(
        epochs=job.training.epochs if job.supernet.trains else None,
        evaluations=job.search.evaluations,
        minutes=job.search.minutes,
        algorithm=job.search.algorithm,
        predictor=job.search.predictor,
        takes_predictor=job.search.algorithm in PREDICTED,
        hardware=job.hardware,
        metrics=tuple(_metrics(job)) if by_name else (),
    )


def edited(edit: schemas.JobEdit) -> schemas.EditedJob:
    """The text of a job with other values.

    Another list of hardware profiles also changes the names of the objectives and limits that are timed on them: with
    several profiles, each name has its profile.

    Raises:
        JobError: the text is not YAML, or a value cannot be changed by itself.
    """
    changes: dict[Path, Any] = {}
    for key, value in edit.changes.items():
        changes[tuple(key.split("."))] = list(value) if isinstance(value, tuple) else value
        if key == "hardware" and isinstance(value, tuple) and value:
            changes |= _renamed(edit.job, value)
    return schemas.EditedJob(job=edit_job(edit.job, changes, source=_SOURCE))


def _metrics(job: SearchJob) -> list[schemas.JobMetric]:
    """All metrics that can be objectives or have limits, each by the name that the job has for it."""
    profiles, task = job.hardware, SHIPPED.get(job.task)
    if task is None:  # its metrics are known once its class is loaded
        return []
    objectives = {_metric(text, job).name: text for text in job.objectives}
    limits = {_metric(text, job).name: (text, bounds) for text, bounds in job.constraints.items()}
    job_metrics = [name for name in {**objectives, **limits} if name.partition("@")[0] in job.metrics]
    metrics = []
    for name in (*known_objectives(profiles, task=task.names), *job_metrics):
        metric = _metric(name, job)
        short = metric.metric if len(profiles) == 1 else name
        text, bounds = limits.get(name, (objectives.get(name, short), None))
        metrics.append(
            schemas.JobMetric(
                name=objectives.get(name, short),
                limit_name=text,
                unit=metric.unit,
                goal=cast(Any, str(metric.goal)),
                is_objective=name in objectives,
                minimum=None if bounds is None else bounds.min,
                maximum=None if bounds is None else bounds.max,
            )
        )
    order = {metric: place for place, metric in enumerate((*task.names, "latency_ms"))}
    return sorted(metrics, key=lambda entry: order.get(entry.name.partition("@")[0], len(order)))


def _metric(text: str, job: SearchJob) -> Objective:
    """The metric of a name; what one of a plug-in is, is not known before the plug-in is loaded."""
    if text.partition("@")[0] in job.metrics:
        return Objective(text, "", Goal.MINIMIZE)
    return Objective.parse(text, job.hardware, task=SHIPPED[job.task].names)


def _renamed(text: str, hardware: Sequence[str]) -> dict[Path, Any]:
    """Changes of the objectives and limits of a job for other profiles; none where the text describes no job."""
    try:
        job = parse_job(text, source=_SOURCE)
    except JobError:
        return {}
    changes: dict[Path, Any] = {}
    job_metrics = frozenset(job.metrics)
    objectives = list(dict.fromkeys(name for old in job.objectives for name in _names(old, hardware, job_metrics)))
    if objectives != list(job.objectives):
        changes["objectives",] = objectives
    for old, bounds in job.constraints.items():
        names = _names(old, hardware, job_metrics)
        if names != [old]:
            limit: Mapping[str, float] = bounds.model_dump(exclude_none=True)
            changes |= {("constraints", old): None} | {("constraints", name): dict(limit) for name in names}
    return changes


def _names(metric: str, hardware: Sequence[str], job_metrics: Collection[str]) -> list[str]:
    """The names of a metric with some profiles, but of the job's own metrics."""
    short = metric.partition("@")[0]
    if short not in TIMED_METRICS or short in job_metrics:
        return [metric]
    return [short] if len(hardware) == 1 else [f"{short}@{profile}" for profile in hardware]
