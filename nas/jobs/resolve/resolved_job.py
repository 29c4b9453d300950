"""A job's config with the objects that its names stand for: plug-ins, profiles, metrics, variants, lookup tables (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import in_runtime, load_profile
from hardware_profiles.errors import LookupTableError, ProfileError
from nas.engine.evaluation.metric import Metric
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.errors import JobError, PluginError, Remedy, attach_remedy, quoted
from nas.jobs.schema import SearchJob
from nas.jobs.schema.metrics import METRIC
from nas.plugins import PluginRef, check, construct, find, load, of_object
from nas.search.problem.objectives import (
    ENERGY,
    ONNX_RUNTIME,
    Constraint,
    Goal,
    MetricKind,
    Objective,
    is_shipped_metric,
    metrics_of,
    shipped_objectives,
)
from nas.search.problem.tasks import AGREEMENT, CHOICES, OF_CLASSES, ROUTING, SHIPPED, TaskMetrics
from nas.search.problem.variants import Variants

_TASK, _TASK_METRIC = "supernets.tasks:Task", "supernets.tasks:Metric"
_TASKS = {
    "classification": "supernets.tasks.classification:Classification",
    "regression": "supernets.tasks.regression:Regression",
    "language-modelling": "supernets.tasks.language_modelling:LanguageModelling",
    "imitation": "supernets.tasks.imitation:Imitation",
    "detection": "supernets.tasks.detection.detection:Detection",
    "segmentation": "supernets.tasks.segmentation:Segmentation",
    "multi-label": "supernets.tasks.multi_label:MultiLabel",
}
"""The classes of the shipped tasks, which need torch."""


@dataclass(frozen=True)
class ResolvedJob:
    """A job's config with the objects that its names stand for, each looked up once, when it is first used.

    Attributes:
        runs: the folder of runs, in which a job may name earlier ones.
        source: name of the job file in errors.
        objects: plug-ins that the caller passed from Python, classes or objects, by the key of the job that names them.
        run: the run that the job belongs to, where it has begun: files that it keeps are read from there.
    """

    config: SearchJob
    runs: RunsFolder
    source: str = "job"
    objects: Mapping[str, object] = field(default_factory=dict)
    run: RunFolder | None = None

    def plugin(self, key: str) -> PluginRef | None:
        """The plug-in that a key names, or whose object was passed; None for a shipped class. Raises as `plugins`."""
        kind, name, shipped = self.config.names[key]
        return of_object(kind, self.objects[key]) if key in self.objects else find(kind, name, shipped)

    @cached_property
    def plugins(self) -> dict[str, PluginRef]:
        """The plug-ins that it names, by key, with their packages; none is imported.

        Raises:
            UnknownNameError, PluginError: there is no plug-in of a name, there are several, or one has a shipped name.
        """
        refs_by_key = {key: self.plugin(key) for key in self.config.names}
        return {key: ref for key, ref in refs_by_key.items() if ref is not None}

    @cached_property
    def own_metrics(self) -> dict[str, tuple[PluginRef, Metric]]:
        """The job's additional metrics by name, with the plug-ins that they come from.

        Raises:
            PluginError, JobError: one cannot be loaded, or not made with its settings.
        """
        metrics = {}
        for name, config in self.config.metrics.items():
            key = f"metrics.{name}"
            ref, passed_object = self.plugins[key], self.objects.get(key)
            metric: Any = load(ref, Metric) if passed_object is None else passed_object
            check(ref, metric, Metric)
            if metric.goal not in tuple(Goal):
                fault = f"its goal is {metric.goal!r}; expected {' or '.join(Goal)}"
                raise PluginError(f"{ref}: {fault}", code="plugin.contract")
            if isinstance(metric, type):
                metric = construct(ref, metric, settings=config.settings, key=f"{key}.settings")
            metrics[name] = ref, metric
        return metrics

    @cached_property
    def _kinds(self) -> dict[str, MetricKind]:
        """The unit, the goal and the scope of each additional metric, by name."""
        metrics = {name: metric for name, (_, metric) in self.own_metrics.items()}
        return {name: MetricKind(str(m.unit), Goal(m.goal), bool(m.per_profile)) for name, m in metrics.items()}

    @cached_property
    def profiles(self) -> list[HardwareProfile]:
        """The job's hardware profiles; where the job names one runtime, in that.

        Raises:
            JobError: one is unknown, its file is missing or malformed, or two have one name.
        """
        profiles: dict[str, HardwareProfile] = {}
        only = self._runtimes[0] if len(self._runtimes) == 1 else None
        for i, name in enumerate(self.config.hardware):
            where = f"{self.source}: hardware[{i}]"
            try:
                profile = load_profile(name)
                profile = profile if only is None else in_runtime(profile, only)
            except ProfileError as error:
                raise JobError(f"{where}: {error}", code=error.code) from None
            if profile.name in profiles:
                raise JobError(
                    f"{where}: a second profile named {profile.name!r}; rename it in its file",
                    code="job.duplicate",
                )
            profiles[profile.name] = profile
        return list(profiles.values())

    @cached_property
    def _runtimes(self) -> tuple[str, ...]:
        """The runtimes that the job names; of a plug-in its class, by which a measuring process finds it."""
        refs = [self.plugins.get(f"runtimes[{i}]") for i in range(len(self.config.runtimes or ()))]
        named_refs = zip(self.config.runtimes or (), refs, strict=True)
        return tuple(name if ref is None else ref.target for name, ref in named_refs)

    @cached_property
    def deployed(self) -> dict[tuple[str, str], HardwareProfile]:
        """The job's hardware profiles in each of its runtimes, by name and runtime (see `Request.runtime`).

        Raises:
            JobError: as `profiles`, or a profile cannot be measured in a runtime.
        """
        profiles_by_place = {}
        for profile in self.profiles:
            for runtime in self.variants.runtimes:
                try:
                    deployed_profile = in_runtime(profile, runtime) if len(self._runtimes) > 1 else profile
                except ProfileError as error:
                    raise JobError(f"{self.source}: runtimes: {error}", code=error.code) from None
                profiles_by_place[profile.name, runtime] = deployed_profile
        return profiles_by_place

    @cached_property
    def lookup_tables(self) -> dict[str, Path]:
        """Paths of the job's lookup tables, by profile name.

        Raises:
            LookupTableError: a file is missing, damaged, unfinished, or was measured with another protocol or profile.
            JobError: a table's profile is not in the job, or two tables have one profile.
        """
        if not self.config.lookup_tables:
            return {}
        from hardware_profiles.lookup_table_file import load_lookup, profile_of  # loads numpy

        path_by_profile: dict[str, Path] = {}
        for i, path in enumerate(self.config.lookup_tables):
            where = f"{self.source}: lookup_tables[{i}]"
            name = profile_of(path)
            profile = next((p for p in self.profiles if p.name == name), None)
            if profile is None:
                profile_names = ", ".join(p.name for p in self.profiles)
                raise JobError(
                    f"{where}: {path} is of profile {name!r}, and the job measures on {profile_names}; remove it"
                )
            if name in path_by_profile:
                raise JobError(f"{where}: a second table of profile {name!r}, after {path_by_profile[name]}; keep one")
            try:
                load_lookup(path, profile=profile, environment=None)
            except LookupTableError as error:
                if error.code == "lookup-table.unfinished":
                    attach_remedy(error, Remedy("calibrate", name, {"job": self.source, "output": str(path)}))
                raise
            path_by_profile[name] = path
        return path_by_profile

    @cached_property
    def task_class(self) -> Any:
        """The class of the job's task.

        Raises:
            UnknownNameError, PluginError: there is no such plug-in, it cannot be loaded, or it is no task.
        """
        ref = self.plugin("task")
        return resolve_name(_TASKS[self.config.task]) if ref is None else load(ref, resolve_name(_TASK))

    @cached_property
    def task(self) -> TaskMetrics:
        """The name of the job's task, and the metrics of it that the data allow; raises as `task_class`."""
        config = self.config
        if (task := SHIPPED.get(config.task)) is not None:
            has_choices, used_names = config.data.choices is not None, {*config.objectives, *config.constraints}
            available = (m for m in task.metrics if has_choices or m.name not in CHOICES)
            optional = (*ROUTING, *shipped_objectives(AGREEMENT, *OF_CLASSES))
            return TaskMetrics(task.name, tuple(m for m in available if m not in optional or m.name in used_names))
        return TaskMetrics(config.task, _metrics_of_plugin(self.plugin("task"), self.task_class.metrics))

    @property
    def scored(self) -> Objective:
        """The metric by which networks are scored on the test part."""
        return self.task.scored(self.metrics)

    @cached_property
    def objectives(self) -> list[Objective]:
        """The job's objectives."""
        names = [p.name for p in self.profiles]
        return self.config.parsed_objectives(names, metric_kinds=self._kinds, task=self.task, source=self.source)

    @cached_property
    def constraints(self) -> list[Constraint]:
        """The job's constraints."""
        names = [p.name for p in self.profiles]
        return self.config.parsed_constraints(names, metric_kinds=self._kinds, task=self.task, source=self.source)

    @cached_property
    def metrics(self) -> list[Objective]:
        """The metrics that are measured of every candidate: the objectives, then the metrics that only constraints use."""
        return metrics_of(self.objectives, self.constraints)

    @cached_property
    def energy_profiles(self) -> frozenset[str]:
        """Names of the profiles on which energy is measured."""
        energy = (o.profile for o in self.metrics if o.metric == ENERGY and ENERGY not in self.own_metrics)
        return frozenset(profile for profile in energy if profile is not None)

    @cached_property
    def variants(self) -> Variants:
        """The variants that networks are deployed in.

        Without runtimes in the job, the runtime is that of its profiles, or ONNX Runtime where these have several.
        """
        runtimes = {profile.runtime for profile in self.profiles}
        return Variants(
            self.config.precisions, self._runtimes or (runtimes.pop() if len(runtimes) == 1 else ONNX_RUNTIME,)
        )


def _metrics_of_plugin(ref: PluginRef | None, task_metrics: Any) -> tuple[Objective, ...]:
    """The metrics of a plug-in's task; raises `PluginError` where they are none, or cannot have their names."""
    kind = resolve_name(_TASK_METRIC)
    if (
        not isinstance(task_metrics, tuple | list)
        or not task_metrics
        or not all(isinstance(metric, kind) for metric in task_metrics)
    ):
        raise PluginError(
            f"{ref}: its metrics are {quoted(repr(task_metrics))}; expected a tuple of supernets.tasks.Metric, at least one",
            code="plugin.contract",
        )
    goals = {True: Goal.MAXIMIZE, False: Goal.MINIMIZE}
    metrics = tuple(Objective(m.name, m.unit, goals[bool(m.maximize)], scored=True) for m in task_metrics)
    shipped = {metric.name: metric for task in SHIPPED.values() for metric in task.metrics}
    for metric in metrics:
        if is_shipped_metric(metric.name):
            same = shipped.get(metric.name)
            if same is None or (same.unit, same.goal) != (metric.unit, metric.goal):
                raise PluginError(
                    f"{ref}: its metric {metric.name} has the name of a shipped one, and is another; rename it",
                    code="plugin.contract",
                )
        elif not METRIC.fullmatch(metric.name):
            raise PluginError(
                f"{ref}: its metric is named {quoted(metric.name)}; expected lower-case letters, digits and _",
                code="plugin.contract",
            )
    return metrics
