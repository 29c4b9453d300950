"""What the scripts of a run's page draw: its networks by columns, which 10,000 of them need to travel quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.export import charts
from nas.export.report import Point, RunReport
from nas.export.units import shown_scale, shown_unit, title_of
from nas.objectives import Fidelity, Objective
from supernets.space import SearchSpace


def figure_info(objective: Objective) -> dict[str, Any]:
    """How a figure is shown: ``scale`` turns the stored figure into the one of ``unit``."""
    return {
        "name": objective.name,
        "profile": objective.profile,
        "goal": str(objective.goal),
        "title": title_of(objective),
        "unit": shown_unit(objective),
        "scale": shown_scale(objective),
    }


def chart_data(report: RunReport) -> dict[str, Any]:
    """A search's networks and curves as JSON.

    ``measured`` are all networks that a selection chooses from, in the order told, with their final figures where they
    were measured again (``final`` has their positions, and ``searched`` what the search saw of those); fronts and anchors
    are positions among them. Architectures are told by key: a gene is the position of its option in ``choices``.
    """
    places = {point.architecture: i for i, point in enumerate(report.candidates)}
    searched = {point.architecture: point for point in report.evaluated}
    final = [i for i, point in enumerate(report.candidates) if point.fidelity is Fidelity.FINAL]
    tested = [i for i, point in enumerate(report.candidates) if point.test is not None]
    tests = [report.candidates[i].test or {} for i in tested]
    nearest = None if report.nearest is None or not report.nearest.miss.broken else report.nearest.point.architecture
    return {
        "run": report.run,
        "status": str(report.status),
        "figures": [figure_info(figure) for figure in report.columns],
        "objectives": [objective.name for objective in report.objectives],
        "primary": report.primary.name,
        "cost": report.cost.name,
        "constraints": [constraint.to_json() for constraint in report.constraints],
        "choices": _choices(report.space),
        "measured": {
            **_columns(report.candidates, report.columns),
            "final": final,
            "searched": {
                o.name: [searched[report.candidates[i].architecture].values[o.name] for i in final]
                for o in report.objectives
            },
            "test": {
                "places": tested,
                "values": [test["accuracy"] for test in tests],
                "errors": [test["error"] for test in tests],
            },
        },
        "predicted": _columns(report.predicted, report.columns),
        "front": [places[point.architecture] for point in report.front],
        "fronts": {
            profile: [places[point.architecture] for point in front] for profile, front in report.fronts.items()
        },
        "smallest": places.get(report.space.smallest),
        "largest": places.get(report.space.largest),
        "largest_key": report.space.largest.key,
        "nearest": None if nearest is None else places.get(nearest),
        "convergence": _convergence(report),
        "predictors": _predictors(report),
    }


def _choices(space: SearchSpace) -> list[dict[str, Any]]:
    return [{"name": choice.name, "options": list(choice.options)} for choice in space.choices]


def _columns(points: Sequence[Point], figures: Sequence[Objective]) -> dict[str, Any]:
    """Keys, and by figure its values and errors; None for what a predicted network lacks."""
    return {
        "keys": [point.key for point in points],
        "figures": {
            figure.name: {
                "values": [point.values.get(figure.name) for point in points],
                "errors": [point.errors.get(figure.name) for point in points],
            }
            for figure in figures
        },
    }


def _convergence(report: RunReport) -> dict[str, Any] | None:
    curve = charts.convergence(report)
    if curve is None:
        return None
    shares = [None if share != share else share for share in curve.share.tolist()]  # JSON has no NaN
    return {
        "evaluations": curve.evaluations.tolist(),
        "values": shares,
        "name": curve.name,
        "title": curve.title,
        "close_at": curve.close_at,
        "close_text": curve.close_text if curve.close_at is not None else "",
    }


def _predictors(report: RunReport) -> dict[str, Any]:
    """Rank agreement after each fit, by objective, with the ridge baseline's beside it."""
    found: dict[str, Any] = {}
    for name, predictor in report.predictors.items():
        steps = [step for step, _ in predictor.history]
        found[name] = {
            "steps": steps,
            "kendall_tau": [quality.get("kendall_tau") for _, quality in predictor.history],
            "ridge": [_baseline(quality, "ridge").get("kendall_tau") for _, quality in predictor.history],
        }
    return found


def _baseline(quality: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    baselines: Mapping[str, Any] = quality.get("baselines") or {}
    found: Mapping[str, Any] = baselines.get(name) or {}
    return found
