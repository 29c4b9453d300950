"""Networks and objectives as the API describes them, and as a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

from nas.results.analysis.fronts import broken_by
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from nas.search.problem.objectives import Constraint, Objective
from nas.service.api import schemas

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The beginnings of a formula."""


def objectives_of(report: RunReport) -> tuple[schemas.ObjectiveInfo, ...]:
    """The objectives of a report."""
    return tuple(map(objective_info, report.objectives))


def objective_info(objective: Objective) -> schemas.ObjectiveInfo:
    """An objective as the API describes it."""
    goal = cast(Literal["maximize", "minimize"], str(objective.goal))
    return schemas.ObjectiveInfo(name=objective.name, unit=objective.unit, goal=goal)


def networks(
    points: Sequence[Point], constraints: Sequence[Constraint], numbers: Mapping[str, int]
) -> list[schemas.Network]:
    """Points as the API describes them.

    Args:
        constraints: those that `within_limits` checks.
        numbers: of the front's members, by key.
    """
    allowed: Iterable[bool] = (broken_by(points, constraints) == 0).tolist() if points else []
    return [
        schemas.Network(
            key=point.key,
            number=numbers.get(point.key),
            architecture=dict(point.described),
            figures={n: schemas.Figure(value=v, error=point.errors.get(n, 0.0)) for n, v in point.values.items()},
            source=point.source,
            fidelity="final" if point.fidelity == "final" else "search",
            test=None
            if point.test is None
            else schemas.Figure(value=_test_value(point.test), error=point.test["error"]),
            within_limits=within_limits,
        )
        for point, within_limits in zip(points, allowed, strict=True)
    ]


def _test_value(test: Mapping[str, float]) -> float:
    """The value of a test score, whose other key is ``error``."""
    return next(value for name, value in test.items() if name != "error")


def networks_csv(networks: Sequence[schemas.Network], *, scored: str = "accuracy") -> str:
    """One row for each network: its metrics in stored units with their errors, and its architecture.

    No cell can be a formula of a spreadsheet: names and keys begin with letters or digits, and reasons with a quote where
    they could be one.

    Args:
        scored: the metric that networks are scored by on the test part.
    """
    metrics = list(dict.fromkeys(name for network in networks for name in network.figures))
    choices = list(dict.fromkeys(name for network in networks for name in network.architecture))
    out = io.StringIO()
    writer = csv.writer(out)
    listed = any(network.evaluation is not None for network in networks)
    header = ["number", "key", *(part for name in metrics for part in (name, f"{name} error"))]
    header += [f"test {scored}", f"test {scored} error", "source", "fidelity", "within limits"]
    writer.writerow([*header, *(["evaluation", "status", "reason"] if listed else []), *choices])
    for network in networks:
        row: list[object] = ["" if network.number is None else network.number, network.key]
        for name in metrics:
            metric = network.figures.get(name)
            row += ["", ""] if metric is None else [metric.value, metric.error]
        test = network.test
        row += ["", ""] if test is None else [test.value, test.error]
        row += [network.source, network.fidelity, "yes" if network.within_limits else "no"]
        if listed:
            reason = f"'{network.reason}" if network.reason.startswith(_FORMULA) else network.reason
            row += [network.evaluation, network.status, reason]
        writer.writerow([*row, *(network.architecture.get(choice, "") for choice in choices)])
    return out.getvalue()
