"""Plug-ins that a caller passes from Python: classes and objects in place of the names of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from nas.config import MetricConfig, SearchJob
from nas.config.data import OF_FILES
from nas.engine.run_options import RunOptions
from nas.errors import PluginError
from nas.plugins import Kind, PluginRef, of_object


class Passed(TypedDict, total=False):
    """The plug-ins of a call, in place of those that its job names.

    Attributes:
        data: a data set: a class or an object.
        algorithm: a search algorithm: a class, an object, or a function that makes one as a class would.
        family: a class of networks.
        task: a class of what networks are trained and scored for.
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


def with_passed(job: SearchJob, options: RunOptions, passed: Passed) -> tuple[SearchJob, RunOptions]:
    """A job that names the classes of the plug-ins that were passed, and options that hold them."""
    objects = _by_key(passed)
    kinds = {key: kind for kind, (_, key) in _PLACES.items()}
    if "data.name" in objects:
        job = job.model_copy(update={"data": job.data.model_copy(update=dict.fromkeys(OF_FILES))})
    for key, found in objects.items():
        section, _, name = key.partition(".")
        if section == "metrics":
            metric = MetricConfig.model_construct(name=of_object(Kind.METRICS, found).target, settings={})
            used = {text.partition("@")[0] for text in (*job.objectives, *job.constraints)}
            objectives = job.objectives if name in used else (*job.objectives, name)
            job = job.model_copy(update={"metrics": {**job.metrics, name: metric}, "objectives": objectives})
        else:
            job = _with(job, key.split("."), of_object(kinds[key], found).target)
    return job, replace(options, objects={**options.objects, **objects})


def resumed_with(options: RunOptions, passed: Passed) -> RunOptions:
    """Options that hold the plug-ins that were passed, for a run whose job names their classes already."""
    return replace(options, objects={**options.objects, **_by_key(passed)})


def _by_key(passed: Passed) -> dict[str, object]:
    found: Mapping[str, Any] = passed
    metrics = {f"metrics.{name}": metric for name, metric in (found.get("metrics") or {}).items()}
    single = {key: found[name] for name, key in _PLACES.values() if found.get(name) is not None and name != "metrics"}
    return {**single, **metrics}


def _with(model: Any, path: Sequence[str], value: object) -> Any:
    """A copy of a section with one value changed."""
    name, *rest = path
    return model.model_copy(update={name: _with(getattr(model, name), rest, value) if rest else value})


def check_passed(run: str, plugins: Sequence[PluginRef], objects: Mapping[str, object]) -> None:
    """Raises `PluginError` where a run was started with objects that are not passed again."""
    for ref in plugins:
        name, key = _PLACES[ref.kind]
        if ref.given and not any(f"{own}.".startswith(f"{key}.") for own in objects):
            raise PluginError(
                f"run {run}: its {ref} was passed from Python as an object; continue the run there: "
                f"nas.resume({run!r}, {name}=...)",
                code="plugin.object-needed",
            )
