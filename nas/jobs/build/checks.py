"""Checks that a prepared job can be trained and measured here, before a run is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import check_machine
from hardware_profiles.errors import PrecisionError, ProfilingError
from hardware_profiles.lookup_table_file import load_lookup
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.quantize import check_precision
from hardware_profiles.runtime import runtime_version
from nas.errors import JobError
from nas.jobs.build.prepared_job import PreparedJob, space_digest
from nas.jobs.build.search_objects import build_algorithm, exact_values
from nas.jobs.build.serving import check_served
from nas.jobs.build.supernet_factory import SupernetFactory
from nas.search.problem.objectives import EXACT_METRICS
from nas.search.problem.variants import environment_name


def check_trainable(supernets: SupernetFactory) -> None:
    """Checks that the teacher and the device are there, and that each phase of the training has an epoch.

    Raises:
        JobError, CheckpointError, TrainingError: one is missing.
    """
    if supernets.checkpoint is None and supernets.config.training.epochs:
        _ = supernets.teacher
        supernets.device()
        supernets.strategy().phases(supernets.config.training.epochs)


def check_searchable(prepared: PreparedJob) -> None:
    """Checks the job's constraints and serving against its data and its space.

    Raises:
        JobError: a language model's prompt or context is too long, or no network of the space satisfies a constraint.
        PluginError: the algorithm of a plug-in cannot be loaded or made.
    """
    _ = prepared.serving
    _check_constraints(prepared)
    if "search.algorithm" in prepared.config.plugins:
        build_algorithm(prepared, prepared.supernets.outline())


def check_measurable(prepared: PreparedJob) -> dict[str, Mapping[str, Any]]:
    """The environments of the profiles, by `environment_name`, once every metric of the job can be measured in every variant.

    The machine of each profile is contacted; for profiles on Ray nodes, a cluster must be connected.

    Raises:
        ProfileError: a machine does not answer, or lacks what its profile asks for, or the counters of an energy.
        JobError: a provider does not run a precision, a lookup table is of another space, or a language model's cache does not
            fit into a machine's memory.
        LookupTableError: a table is damaged, or of another profile, machine or precision.
    """
    job = prepared.job
    tables, environments, memory = job.lookup_tables, {}, prepared.memory(prepared.supernets.outline())
    for runtime in job.variants.runtimes:
        _check_scored(runtime, where=job.source)
    for place, profile in job.deployed.items():
        check_machine(profile)
        for precision in job.variants.precisions:
            try:
                check_precision(precision, profile.provider, profile.runtime)
            except PrecisionError as error:
                where = f"{job.source}: precisions: profile {profile.name}"
                raise JobError(f"{where}: {error}", code="job.precision-unavailable") from None
        with open_profiler(profile, energy=profile.name in job.energy_profiles) as profiler:
            environments[environment_name(*place)] = environment = profiler.environment()
        if prepared.serving is not None and memory is not None:
            check_served(prepared.serving, memory, job, profile, environment)
        if (path := tables.get(profile.name)) is not None:
            _check_table(prepared, path, profile, environment)
    return environments


def _check_scored(runtime: str, *, where: str) -> None:
    """Raises `JobError` unless networks can be scored in a runtime, which runs in this program for that."""
    try:
        runtime_version(runtime)
    except ProfilingError as error:
        raise JobError(
            f"{where}: runtimes: metrics of the task are scored in {runtime}: {error}", code=error.code
        ) from None


def _check_constraints(prepared: PreparedJob) -> None:
    """Rejects bounds on computed costs outside of the range of the space."""
    if not (exact := [c for c in prepared.job.constraints if c.metric.metric in EXACT_METRICS]):
        return
    supernet, variants = prepared.supernets.outline(), prepared.job.variants
    memory = prepared.memory(supernet)
    ends = [prepared.space.smallest, prepared.space.largest]  # every cost grows with every choice
    for constraint in exact:
        low, high = exact_values(supernet, variants, constraint.metric.metric, ends, memory=memory).tolist()
        for key, bound, broken in (
            ("max", constraint.maximum, constraint.maximum is not None and constraint.maximum < low),
            ("min", constraint.minimum, constraint.minimum is not None and constraint.minimum > high),
        ):
            if broken:
                where = f"{prepared.job.source}: constraints.{constraint.metric.name}.{key}"
                values = f"from {low:g} (the smallest) to {high:g} (the largest)"
                message = f"no network satisfies {bound:g}: values range {values}; change the bound or the space"
                raise JobError(f"{where}: {message}", code="job.constraint-unsatisfiable")


def _check_table(prepared: PreparedJob, path: Path, profile: HardwareProfile, environment: Mapping[str, Any]) -> None:
    table, digest = load_lookup(path, profile=profile, environment=environment), space_digest(prepared.supernets.family)
    missing = [precision for precision in prepared.job.variants.precisions if precision not in table.fits]
    if table.source != digest:
        fault = f"is of another space ({table.source}) than the job's ({digest}); calibrate with this job"
    elif missing:
        fault = f"has no fit for {missing[0]}, only for {', '.join(table.fits)}; calibrate with this job, into the same file"
    else:
        return
    raise JobError(f"{prepared.job.source}: lookup_tables: {path} {fault}", code="job.lookup-table-unusable")
