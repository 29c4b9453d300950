"""The JSON forms of a run that scripts read: `nas search --json` and `nas show --json`."""

from __future__ import annotations

from typing import Any

from nas.export.report import Point, RunReport


def search_json(report: RunReport) -> dict[str, Any]:
    """What `nas search JOB --json` prints: the front and the anchors, figures in their objectives' units."""
    return {
        "run": report.run,
        "status": str(report.status),
        "evaluations": report.n_evaluations,
        "front": [point_json(point) for point in report.front],
        "anchors": {
            name: point_json(report.anchors[name]) if name in report.anchors else None
            for name in ("smallest", "largest")
        },
    }


def show_json(report: RunReport) -> dict[str, Any]:
    """What `nas show RUN --json` prints: `search_json` with the objectives, predictors, hypervolume and comparison.

    ``hypervolume.value`` is that of the front as shown (measured again where it was); ``history`` is of search figures.
    """
    return {
        **search_json(report),
        "name": report.name,
        "objectives": [{"name": o.name, "unit": o.unit, "goal": str(o.goal)} for o in report.objectives],
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
        "failed": dict(report.failed),
    }


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
