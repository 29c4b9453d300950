"""The data of a run's charts as JSON for the page's scripts: by columns, so that 10,000 networks travel quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.engine.formatting import shown_scale, shown_unit, title_of, title_on_test
from nas.results.analysis.network_values import Point, errors_of, keys_of, values_of
from nas.results.analysis.report import RunReport
from nas.results.plots.chart_data import convergence
from nas.results.plots.front_panels import MEASURED_NAME, PREDICTED_NAME, Networks, Series
from nas.search.problem.objectives import Objective


def metric_info(metric: Objective) -> dict[str, Any]:
    """How a metric is shown: ``scale`` turns a stored value into one of ``unit``."""
    return {
        "name": metric.name,
        "profile": metric.profile,
        "goal": str(metric.goal),
        "title": title_of(metric),
        "unit": shown_unit(metric),
        "scale": shown_scale(metric),
        "of_task": metric.of_task,
    }


def chart_data(report: RunReport) -> dict[str, Any]:
    """A search's networks and curves as JSON.

    ``measured`` are all networks that a selection chooses from, in the order evaluated, with their final values where they
    were measured again (``final`` has their positions, and ``searched`` their search values); the front and the places of
    series are positions among them. A gene in a key is the position of its option in ``choices``. ``blocks`` has the costs by
    block of the networks that were chosen to be measured again; see `nas.engine.store.block_costs`.
    """
    candidates = report.candidates
    final = np.flatnonzero(candidates.final).tolist()
    searched = report.evaluated.take([report.evaluated.places[candidates.keys[i]] for i in final])
    return {
        "metrics": [metric_info(metric) for metric in report.columns],
        "objectives": [objective.name for objective in report.objectives],
        "primary": report.primary.name,
        "cost": report.cost.name,
        "constraints": [{"metric": c.metric.name, "min": c.minimum, "max": c.maximum} for c in report.constraints],
        "choices": [{"name": choice.name, "options": list(choice.options)} for choice in report.space.choices],
        "measured": {
            **_columns(candidates, report.columns),
            "final": final,
            "searched": {o.name: values_of(searched, o.name).tolist() for o in report.objectives},
            "test": {
                "places": list(candidates.tests),
                "metric": metric_info(report.scored) | {"title": title_on_test(report.scored)},
                "values": [test[report.scored.name] for test in candidates.tests.values()],
                "errors": [test["error"] for test in candidates.tests.values()],
            },
        },
        "predicted": _columns(report.predicted, report.columns),
        "front": [candidates.places[point.key] for point in report.front],
        "views": _views(report),
        "largest_key": report.space.largest.key,
        "blocks": report.block_costs.to_json(),
        "convergence": _convergence(report),
        "predictors": _predictors(report),
    }


def _columns(points: Sequence[Point], metrics: Sequence[Objective]) -> dict[str, Any]:
    """Keys, and values and errors by metric; None for what a predicted network lacks."""
    return {
        "keys": list(keys_of(points)),
        "metrics": {
            metric.name: {
                "values": _without_nan(values_of(points, metric.name)),
                "errors": _without_nan(errors_of(points, metric.name)),
            }
            for metric in metrics
        },
    }


def _without_nan(values: NDArray[np.float64]) -> list[float | None]:
    """Values with None in place of NaN, which JSON does not have."""
    return [None if value != value else value for value in values.tolist()]


def _views(report: RunReport) -> list[dict[str, Any]]:
    """The views of the chart against the primary objective: each other metric, and one metric on all profiles at once.

    The views of several profiles come first, then the cost. Each has ``metrics``, of which the first stands for their unit
    and goal, and the ``series`` of its panel in drawing order.
    """
    networks = Networks.from_report(report, report.candidates)
    positions = report.candidates.places, {point.key: place for place, point in enumerate(report.predicted)}
    costs = sorted((m for m in report.columns if m != report.primary), key=lambda m: m != report.cost)
    series = {cost: networks.series((cost, report.primary)) for cost in costs}
    views = []
    for cost in costs:
        panel = [_series(group, cost, *positions) for group in series[cost]]
        views.append({"title": title_of(cost), "metrics": [metric_info(cost)], "series": panel})
    for metric in dict.fromkeys(cost.metric for cost in costs if cost.profile is not None):
        several = [cost for cost in costs if cost.metric == metric]
        if len(several) > 1:
            joint = [
                _series(group, cost, *positions) | {"name": f"{group.name}, {cost.profile}", "colour": number}
                for number, cost in enumerate(several)
                for group in series[cost]
                if group.name.startswith(("front", MEASURED_NAME, PREDICTED_NAME))
            ]
            title = f"{title_of(several[0]).partition(',')[0]}, every profile"
            views.insert(0, {"title": title, "metrics": [metric_info(cost) for cost in several], "series": joint})
    return views


def _series(
    series: Series, metric: Objective, measured: Mapping[str, int], predicted: Mapping[str, int]
) -> dict[str, Any]:
    """A series with the positions of its networks in ``part``; a number in place of its colours is one of the palette."""
    look = series.look
    is_predicted = series.points[0].source == "predicted"
    positions = predicted if is_predicted else measured
    return asdict(look) | {
        "name": series.name,
        "metric": metric.name,
        "part": "predicted" if is_predicted else "measured",
        "places": [positions[key] for key in keys_of(series.points) if key in positions],
        "colour": [look.colour.light, look.colour.dark],
    }


def _convergence(report: RunReport) -> dict[str, Any] | None:
    curve = convergence(report)
    if curve is None:
        return None
    return asdict(curve) | {
        "evaluations": curve.evaluations.tolist(),
        "values": _without_nan(curve.values),
        "close_text": curve.close_text if curve.close_at is not None else "",
        "close_late": curve.close_late,
    }


def _predictors(report: RunReport) -> dict[str, Any]:
    """Rank agreement after each fit, by objective, with that of the ridge baseline."""
    return {
        name: {
            "steps": [step for step, _ in predictor.history],
            "kendall_tau": [quality.get("kendall_tau") for _, quality in predictor.history],
            "ridge": [
                ((quality.get("baselines") or {}).get("ridge") or {}).get("kendall_tau")
                for _, quality in predictor.history
            ],
        }
        for name, predictor in report.predictors.items()
    }
