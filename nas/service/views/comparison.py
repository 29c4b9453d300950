"""Comparison of searches in their common objectives, from one reference point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from nas.errors import SelectionError
from nas.results.analysis.fronts import broken_by, comparable, front_hypervolume, front_of, hypervolumes
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from nas.search.problem.objectives import Objective
from nas.service.api import schemas
from nas.service.views.common_front import MeasurementBasis, common_front, obstacles
from nas.service.views.networks import networks, objective_info

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
