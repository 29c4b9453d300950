"""Comparison of searches: their common objectives, reference point and front, and the differences of their jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from hardware_profiles.environment import differences
from nas.engine.store.base import RunStore
from nas.errors import SelectionError
from nas.jobs.schema import SearchJob
from nas.jobs.schema.strict_yaml import dump_inline
from nas.results.analysis.fronts import broken_by, comparable, front_hypervolume, front_of, hypervolumes
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from nas.search.problem.objectives import Objective
from nas.service.api import schemas
from nas.service.api.schemas import JobDifference
from nas.service.views.networks import networks, objective_info

_DECISIVE = ("threads", "batch_size", "provider")
"""The settings of a profile that change what is measured on it."""


@dataclass(frozen=True, slots=True)
class MeasurementBasis:
    """The conditions under which the values of a run were measured.

    Attributes:
        validation: Digest of the examples behind its accuracies; None where its version recorded none.
        profiles: Settings of the run's hardware profiles by name.
        environments: Environment of the first measurement by ``profile NAME``.
    """

    validation: str | None
    profiles: Mapping[str, Mapping[str, Any]]
    environments: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, store: RunStore) -> MeasurementBasis:
        """The basis of a run that has begun, from its store."""
        facts, state = store.facts(), store.state()
        recorded = {} if facts is None else facts.compatibility
        return cls(recorded.get("data", {}).get("validation"), recorded.get("profiles", {}), state.environments)


def obstacles(bases: Mapping[str, MeasurementBasis], objectives: Iterable[Objective]) -> list[str]:
    """Why values of the runs in these objectives cannot be compared, by sentences; empty where they can.

    Args:
        bases: by run; each is compared with the first.
    """
    (first, basis), *other_bases = bases.items()
    sentences = []
    for objective in objectives:
        for run, other_basis in other_bases:
            sentences += [f"{text} ({first} and {run})" for text in _obstacles(objective, basis, other_basis)]
    return list(dict.fromkeys(sentences))


def _obstacles(objective: Objective, a: MeasurementBasis, b: MeasurementBasis) -> list[str]:
    if objective.of_task and None not in (a.validation, b.validation) and a.validation != b.validation:
        return [f"{objective.name} was measured on different validation examples"]
    if objective.profile is None:
        return []
    name = objective.profile
    was, now = a.profiles.get(name, {}), b.profiles.get(name, {})
    settings = [f"{key} {was.get(key)} and {now.get(key)}" for key in _DECISIVE if was.get(key) != now.get(key)]
    if settings:
        return [f"the profile {name} has other settings: {', '.join(settings)}"]
    before, after = a.environments.get(f"profile {name}"), b.environments.get(f"profile {name}")
    if before is None or after is None:
        return []
    changed = differences(before, after)
    return (
        [f"{objective.metric} on {name} was measured in different environments: {'; '.join(changed)}"]
        if changed
        else []
    )


def common_front(fronts: Mapping[str, Sequence[Point]], objectives: Sequence[Objective]) -> list[tuple[str, Point]]:
    """The members of several runs' fronts that no member of another dominates, with their run, the cheapest first."""
    runs = {id(point): run for run, front in fronts.items() for point in front}
    return [(runs[id(point)], point) for point in front_of([p for front in fronts.values() for p in front], objectives)]


def job_differences(jobs: Mapping[str, SearchJob]) -> tuple[JobDifference, ...]:
    """The keys with different values, defaults included, in the order of a job file; at least one job."""
    flat = {
        run: dict(_flat(job.model_dump(mode="json", by_alias=True, exclude_none=True))) for run, job in jobs.items()
    }
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    rows = [{run: values.get(key) for run, values in flat.items()} for key in keys]
    return tuple(
        JobDifference(key=key, values={run: None if v is None else dump_inline(v) for run, v in values.items()})
        for key, values in zip(keys, rows, strict=True)
        if any(value != next(iter(values.values())) for value in values.values())
    )


def _flat(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a section by their path; lists are values."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


_MAX_STEPS = 500
"""Points of a curve."""


def compared(
    reports: Sequence[RunReport],
    bases: Mapping[str, MeasurementBasis],
    differences: Sequence[schemas.JobDifference] = (),
) -> schemas.Comparison:
    """The searches in their common objectives, each with the front of the networks within its own constraints.

    Args:
        bases: The conditions of the measurements by run.
        differences: of the job files.

    The reference point is, in each objective, the worst of the runs' own; a run without one yet is left out of it.

    Raises:
        SelectionError: they have no objective in common.
    """
    common = [o for o in reports[0].objectives if all(o in report.objectives for report in reports)]
    if not common:
        listed = "; ".join(f"{r.run}: {', '.join(o.name for o in r.objectives)}" for r in reports)
        text = f"these runs have no objective in common, and so no common front ({listed}); compare runs on the same profile"
        raise SelectionError(text, code="selection.no-common-objective")
    reference = common_reference(reports, common)
    fronts = {report.run: _front(report, common) for report in reports}
    hindered = obstacles(bases, common)
    members = [] if hindered else common_front(fronts, common)
    return schemas.Comparison(
        objectives=tuple(map(objective_info, common)),
        reference=reference,
        runs=tuple(_compared_run(report, fronts[report.run], common, reference) for report in reports),
        common_front=tuple(schemas.CommonMember(run=run, key=point.key) for run, point in members),
        obstacles=tuple(hindered),
        job_differences=tuple(differences),
    )


def common_reference(reports: Sequence[RunReport], objectives: Sequence[Objective]) -> dict[str, float]:
    """The worst of the runs' reference points in each objective; empty where no run has one."""
    references = [report.reference for report in reports if all(o.name in report.reference for o in objectives)]
    if not references:
        return {}
    return {o.name: o.sign * max(o.sign * reference[o.name] for reference in references) for o in objectives}


def _front(report: RunReport, common: Sequence[Objective]) -> tuple[Point, ...]:
    """The front of a run in the common objectives."""
    again = report.candidates.take(np.flatnonzero(report.candidates.final))
    final = again if report.measured_again else report.candidates
    allowed = final.take(np.flatnonzero(broken_by(final, report.constraints) == 0))
    return front_of(comparable(allowed, report.evaluated, common), common)


def _compared_run(
    report: RunReport, front: Sequence[Point], common: Sequence[Objective], reference: Mapping[str, float]
) -> schemas.ComparedRun:
    numbers = {point.key: number for number, point in enumerate(report.front)}
    return schemas.ComparedRun(
        run=report.run,
        status=cast(schemas.RunStatusName, str(report.status)),
        front=tuple(networks(front, report.constraints, numbers)),
        hypervolume=front_hypervolume(front, common, reference),
        curve=_curve(report, common, reference),
    )


def _curve(
    report: RunReport, common: Sequence[Objective], reference: Mapping[str, float]
) -> tuple[tuple[int, float], ...]:
    if not reference or not report.evaluated:
        return ()
    volumes = hypervolumes(report.evaluated, common, report.constraints, reference)
    # Failed networks count as evaluations, too; the run's own curve includes them.
    numbers = [n for n, _ in report.hypervolume] or range(1, len(volumes) + 1)
    return thinned(list(zip(numbers, volumes, strict=True)))


def thinned(curve: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """The points where a non-decreasing curve rises, with its ends; an even selection where there are too many."""
    rises = [i for i in range(len(curve)) if i in (0, len(curve) - 1) or curve[i][1] > curve[i - 1][1]]
    if len(rises) > _MAX_STEPS:
        rises = [rises[round(at)] for at in np.linspace(0, len(rises) - 1, _MAX_STEPS)]
    return tuple(curve[i] for i in rises)
