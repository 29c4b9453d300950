"""Plug-ins that a caller passes from Python: classes and objects in place of the names of a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from nas.errors import PluginError, quoted
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import MetricConfig, SearchJob
from nas.jobs.schema.data import OF_FILES
from nas.jobs.schema.errors import reported
from nas.jobs.schema.metrics import check_own_metric
from nas.plugins import Kind, PluginRef, of_object


class PassedPlugins(TypedDict, total=False):
    """The plug-ins of a call, in place of those that its job names.

    Attributes:
        data: a data set: a class or an object.
        algorithm: a search algorithm: a class, an object, or a function that makes one as a class would.
        family: a class of networks, which checkpoints load again: one of a module, not of a function.
        task: likewise a class, of what networks are trained and scored for.
        strategy: a class, or a function that makes one as a class would, which chooses what each training step trains.
        metrics: additional metrics by name, each a class or an object; those that the job names nowhere are objectives.
    """

    data: object
    algorithm: object
    family: type
    strategy: object
    task: type
    metrics: Mapping[str, object]


_PLACES = {
    Kind.DATA: ("data", "data.name"),
    Kind.SEARCH: ("algorithm", "search.algorithm"),
    Kind.FAMILIES: ("family", "supernet.family"),
    Kind.STRATEGIES: ("strategy", "training.strategy"),
    Kind.METRICS: ("metrics", "metrics"),
    Kind.TASKS: ("task", "task"),
}
"""The parameter of a call, and the key of the job, by kind."""


def with_passed(job: SearchJob, options: RunOptions, passed: PassedPlugins) -> tuple[SearchJob, RunOptions]:
    """A job that names the classes of the plug-ins that were passed, and options that hold them.

    Raises:
        PluginError: an object came in place of a class.
        JobError: an additional metric has the name of a shipped one, or none that job files may write.
    """
    objects = _by_key(passed)
    with reported("job"):
        for name in passed.get("metrics") or ():
            check_own_metric(name)
    kinds = {key: kind for kind, (_, key) in _PLACES.items()}
    if "data.name" in objects:
        job = job.model_copy(update={"data": job.data.model_copy(update=dict.fromkeys(OF_FILES))})
    for key, passed_object in objects.items():
        section, _, name = key.partition(".")
        if section == "metrics":
            metric = MetricConfig.model_construct(name=of_object(Kind.METRICS, passed_object).target, settings={})
            used = {text.partition("@")[0] for text in (*job.objectives, *job.constraints)}
            objectives = job.objectives if name in used else (*job.objectives, name)
            job = job.model_copy(update={"metrics": {**job.metrics, name: metric}, "objectives": objectives})
        else:
            job = _replace_value(job, key.split("."), of_object(kinds[key], passed_object).target)
    return job, replace(options, objects={**options.objects, **objects})


def resumed_with(options: RunOptions, passed: PassedPlugins) -> RunOptions:
    """Options that hold the plug-ins that were passed, for a run whose job names their classes already."""
    return replace(options, objects={**options.objects, **_by_key(passed)})


def _by_key(passed: PassedPlugins) -> dict[str, object]:
    objects_by_name: Mapping[str, Any] = passed
    metrics = {f"metrics.{name}": metric for name, metric in (objects_by_name.get("metrics") or {}).items()}
    single = {
        key: objects_by_name[name]
        for name, key in _PLACES.values()
        if objects_by_name.get(name) is not None and name != "metrics"
    }
    for key, passed_object in single.items():
        if isinstance(passed_object, str):
            text = f"{key.rpartition('.')[2]}={quoted(passed_object)}: expected a class or an object"
            raise PluginError(f"{text}; name it in the job, as {key}", code="plugin.contract")
    for kind in (Kind.FAMILIES, Kind.TASKS, Kind.STRATEGIES):
        name, key = _PLACES[kind]
        if key in single:
            _check_class(kind, name, single[key])
    return {**single, **metrics}


def _check_class(kind: Kind, name: str, passed_object: object) -> None:
    """Raises `PluginError` for an object in place of what makes one; for a family or a task, unless it can be loaded again."""
    if callable(passed_object) if kind is Kind.STRATEGIES else not of_object(kind, passed_object).is_object:
        return
    expected = (
        "a class, or a function that makes an object as a class would"
        if kind is Kind.STRATEGIES
        else "a class of a module, which an export loads again by module:Class"
    )
    raise PluginError(f"{name}={quoted(repr(passed_object))}: expected {expected}", code="plugin.contract")


def _replace_value(model: Any, path: Sequence[str], value: object) -> Any:
    """A copy of a section with one value changed."""
    name, *remaining = path
    return model.model_copy(
        update={name: _replace_value(getattr(model, name), remaining, value) if remaining else value}
    )


def check_passed(
    run: str, job: SearchJob, recorded: Iterable[PluginRef], objects: Mapping[str, object], *, call: str
) -> None:
    """Raises `PluginError` unless the objects that a run was started with are passed again, for a job on it.

    Args:
        recorded: the plug-ins of the run.
        objects: Objects that are passed, by key of the job.
        call: Python call that continues the run, for the error, e.g. ``nas.resume('RUN'``.
    """
    refs = {(ref.kind, ref.name): ref for ref in recorded}
    names = {key: (kind, name) for key, (kind, name, _) in job.names.items()}
    for key, (kind, name) in names.items():
        ref = refs.get((kind, name))
        if ref is not None and ref.is_object and key not in objects:
            raise PluginError(
                f"run {run}: its {ref} was passed from Python as an object; pass it again there: "
                f"{call}, {_PLACES[kind][0]}=...)",
                code="plugin.object-needed",
            )
    for key, passed_object in objects.items():
        kind, name = names.get(key, (Kind.METRICS, key.partition(".")[2]))
        ref = refs.get((kind, name))
        was = (name if key in names else "not in the run") if ref is None else ref.target
        if (came := of_object(kind, passed_object).target) != was:
            raise PluginError(
                f"run {run}: {key} is {was}, and {came} was passed; pass what the run began with, or start a new run",
                code="plugin.differs",
            )
