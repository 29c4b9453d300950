"""What the scripts of a run's page draw: its networks by columns, which 10,000 of them need to travel quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.analysis.formatting import shown_scale, shown_unit, title_of
from nas.analysis.points import Point, errors_of, keys_of, values_of
from nas.analysis.report import RunReport
from nas.problem.objectives import Objective
from nas.visualization import chart_data as charts
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
    candidates = report.candidates
    places = candidates.places
    final = np.flatnonzero(candidates.final).tolist()
    searched = report.evaluated.take([report.evaluated.places[candidates.keys[i]] for i in final])
    nearest = None if report.nearest is None or not report.nearest.miss.broken else report.nearest.point.key
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
            **_columns(candidates, report.columns),
            "final": final,
            "searched": {o.name: values_of(searched, o.name).tolist() for o in report.objectives},
            "test": {
                "places": list(candidates.tests),
                "values": [test["accuracy"] for test in candidates.tests.values()],
                "errors": [test["error"] for test in candidates.tests.values()],
            },
        },
        "predicted": _columns(report.predicted, report.columns),
        "front": [places[point.key] for point in report.front],
        "fronts": {profile: [places[point.key] for point in front] for profile, front in report.fronts.items()},
        "smallest": places.get(report.space.smallest.key),
        "largest": places.get(report.space.largest.key),
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
        "keys": list(keys_of(points)),
        "figures": {
            figure.name: {
                "values": _known(values_of(points, figure.name)),
                "errors": _known(errors_of(points, figure.name)),
            }
            for figure in figures
        },
    }


def _known(figures: NDArray[np.float64]) -> list[float | None]:
    """JSON has no NaN."""
    return [None if figure != figure else figure for figure in figures.tolist()]


def _convergence(report: RunReport) -> dict[str, Any] | None:
    curve = charts.convergence(report)
    if curve is None:
        return None
    return {
        "evaluations": curve.evaluations.tolist(),
        "values": _known(curve.share),
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
