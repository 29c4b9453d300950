"""The JSON forms of a run that scripts read: `nas search --json` and `nas show --json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nas.results.analysis.block_table import block_table
from nas.results.analysis.fronts import Nearest
from nas.results.analysis.network_selection import Limit
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport


def search_json(report: RunReport) -> dict[str, Any]:
    """The output of `nas search JOB --json`: the front and the anchors, values in their objectives' units.

    ``nearest`` is null unless no network keeps the job's constraints.
    """
    return {
        "run": report.run,
        "status": str(report.status),
        "evaluations": report.n_evaluations,
        "known": report.n_known,
        "counts": asdict(report.counts),
        "front": list(map(point_json, report.front)),
        "nearest": None if report.nearest is None else nearest_json(report.nearest),
        "anchors": {"smallest": None, "largest": None} | {n: point_json(point) for n, point in report.anchors.items()},
    }


def show_json(report: RunReport) -> dict[str, Any]:
    """The output of `nas show RUN --json`: `search_json` with the objectives, predictors, hypervolume and comparison.

    ``fronts`` has one per profile where several have objectives; ``front`` is the joint one. ``hypervolume.value`` is that of
    the front, with final values where there are any; ``history`` is of search values.
    """
    return {
        **search_json(report),
        "name": report.name,
        "task": report.task.name,
        "scored": report.scored.name,
        "objectives": [{"name": o.name, "unit": o.unit, "goal": str(o.goal)} for o in report.objectives],
        "constraints": [constraint.to_json() for constraint in report.constraints],
        "fronts": {profile: list(map(point_json, front)) for profile, front in report.fronts.items()},
        "predictors": {
            name: {"quality": dict(p.latest), "history": [{"step": step, "quality": dict(q)} for step, q in p.history]}
            for name, p in report.predictors.items()
        },
        "hypervolume": {
            "value": report.front_hypervolume,
            "reference": dict(report.reference),
            "history": [[n, value] for n, value in report.hypervolume],
        },
        "distinguishable": dict(report.distinguishable),
        "algorithm": report.algorithm,
        "predictor": report.predictor or None,
        "steps": [step.to_json() for step in report.steps],
        "models_from": report.models_from,
        "failed": dict(report.failed),
        "screened_out": dict(report.screened_out),
    }


def selection_json(report: RunReport, limits: Sequence[Limit], best: Point) -> dict[str, Any]:
    """The output of `nas show RUN --select LIMITS --json`: the best network, as `point_json`, and all within the limits.

    ``blocks`` is null unless the costs by block of the best network were recorded.
    """
    blocks = block_table(report, best)
    return {
        **point_json(best),
        "blocks": None if blocks is None else blocks.to_json(),
        "limits": [{"figure": x.objective.name, "sign": x.sign, "bound": x.bound} for x in limits],
        "front": list(map(point_json, report.front)),
        "fronts": {profile: list(map(point_json, front)) for profile, front in report.fronts.items()},
    }


def nearest_json(nearest: Nearest) -> dict[str, Any]:
    """The network of least violation and the constraints that it breaks; `violation` as a share of the bounds."""
    broken = [{**constraint.to_json(), "value": value} for constraint, value in nearest.miss.broken]
    return {**point_json(nearest.point), "violation": nearest.miss.violation, "broken": broken}


def point_json(point: Point) -> dict[str, Any]:
    """One architecture; ``test`` is null where it was not scored on the test part."""
    return {
        "key": point.key,
        "architecture": dict(point.described),
        "values": dict(point.values),
        "errors": dict(point.errors),
        "source": point.source,
        "fidelity": str(point.fidelity),
        "test": None if point.test is None else dict(point.test),
    }
