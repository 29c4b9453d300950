"""Networks and objectives as the API describes them, in filtered and sorted pages, and as a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from nas.errors import SelectionError
from nas.results.analysis.fronts import broken_by
from nas.results.analysis.network_selection import parse_limits
from nas.results.analysis.network_values import Point, Points, values_of
from nas.results.analysis.report import RunReport
from nas.search.problem.objectives import Constraint, Objective
from nas.service.api import schemas
from supernets.space import Architecture

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


TEST = "test"
"""Sorts by the task's metric on the test part."""


@dataclass(frozen=True, slots=True)
class NetworkQuery:
    """A filter and an order of evaluated networks.

    Attributes:
        status: Status of the networks; None for all that have a value of every metric.
        select: Limits that they satisfy, see `parse_limits`; None for none.
        sort: A metric or `TEST`; None for the order of evaluation (of the front: the cheapest first).
    """

    status: schemas.NetworkStatus | None = None
    select: str | None = None
    sort: str | None = None
    descending: bool = False


EVERYTHING = NetworkQuery()


def counts(report: RunReport) -> dict[schemas.NetworkStatus, int]:
    """The number of evaluated networks of each status."""
    tally = report.counts
    return {
        "all": tally.total,
        "front": len(report.front),
        "measured": tally.measured,
        "noisy": tally.noisy,
        "too-noisy": tally.too_noisy,
        "failed": tally.failed,
        "screened-out": tally.screened_out,
    }


def networks_page(
    report: RunReport, query: NetworkQuery, *, offset: int = 0, limit: int = 1000
) -> schemas.NetworksPage:
    """Some of the networks that a query finds.

    Raises:
        SelectionError: the limits are malformed, or the run has not measured a metric.
        UnknownNameError: there is no such metric with the run's profiles.
    """
    points = _with_final_values(report)
    keys = _matching_keys(report, points, query)
    shown = keys[offset : offset + limit]
    return schemas.NetworksPage(run=report.run, total=len(keys), offset=offset, networks=_shown(report, points, shown))


def _with_final_values(report: RunReport) -> Points:
    """All networks with a value of every metric in the order evaluated; final values where there are some."""
    evaluated, again = report.evaluated, report.candidates
    if again is evaluated:
        return evaluated
    places = [evaluated.places[key] for key in again.keys]
    values, errors, final = evaluated.values.copy(), evaluated.errors.copy(), evaluated.final.copy()
    values[places], errors[places], final[places] = again.values, again.errors, again.final
    tests = {places[i]: test for i, test in again.tests.items()}
    return replace(evaluated, values=values, errors=errors, final=final, tests=tests)


def _matching_keys(report: RunReport, points: Points, query: NetworkQuery) -> list[str]:
    """The keys of the networks that a query finds, sorted."""
    keys, numbers = _of_status(report, points, query.status), report.numbers
    if query.select is not None:
        allowed = np.ones(len(points), dtype=bool)
        for limit in parse_limits(report, query.select):
            allowed &= [limit.allows(value) for value in values_of(points, limit.objective.name).tolist()]
        keys = [key for key in keys if key in points.places and allowed[points.places[key]]]
    if query.sort is None:
        if query.status != "front":
            keys.sort(key=numbers.__getitem__)
        return keys[::-1] if query.descending else keys
    column, sign = _column(report, points, query.sort), -1.0 if query.descending else 1.0
    values = np.array([column[points.places[key]] if key in points.places else np.nan for key in keys])
    return [keys[i] for i in np.argsort(sign * values, kind="stable")]  # NaN is last in both directions


def _of_status(report: RunReport, points: Points, status: schemas.NetworkStatus | None) -> list[str]:
    match status:
        case None:
            return list(points.keys)
        case "all":
            return [*points.keys, *report.failed, *report.screened_out]
        case "front":
            return [point.key for point in report.front]
        case "measured":
            return [key for key in points.keys if key not in report.noisy]
        case "noisy":
            return list(report.noisy)
        case "too-noisy":
            return [key for key in report.failed if key in report.too_noisy]
        case "failed":
            return [key for key in report.failed if key not in report.too_noisy]
        case "screened-out":
            return list(report.screened_out)


def _column(report: RunReport, points: Points, sort: str) -> NDArray[np.float64]:
    """The values to sort by, (n,); NaN for a network without one."""
    if sort == TEST:
        scored = report.scored.name
        return np.array([points.tests[i][scored] if i in points.tests else np.nan for i in range(len(points))])
    objective = Objective.parse(sort, report.profiles, where="sort", measured=report.metrics)
    if objective not in report.metrics:
        measured_names = ", ".join(o.name for o in report.metrics)
        raise SelectionError(
            f"sort: run {report.run!r} did not measure {objective.name}; expected one of {measured_names}"
        )
    return values_of(points, objective.name)


def _shown(report: RunReport, points: Points, keys: Sequence[str]) -> tuple[schemas.Network, ...]:
    front = {point.key: number for number, point in enumerate(report.front)}
    measured = [points[points.places[key]] for key in keys if key in points.places]
    shown = {network.key: network for network in networks(measured, report.constraints, front)}
    listed = []
    for key in keys:
        if key in shown:
            status = "noisy" if key in report.noisy else "measured"
            network = shown[key].model_copy(update={"status": status, "evaluation": report.numbers[key]})
        else:
            network = _without_values(report, key)
        listed.append(network)
    return tuple(listed)


def _without_values(report: RunReport, key: str) -> schemas.Network:
    """A network that failed or was screened out."""
    failed = key in report.failed
    why: Literal["too-noisy", "failed"] = "too-noisy" if key in report.too_noisy else "failed"
    return schemas.Network(
        key=key,
        number=None,
        architecture=dict(report.space.values(Architecture.parse(key))),
        figures={},
        source="measured",
        fidelity="search",
        test=None,
        within_limits=False,
        status=why if failed else "screened-out",
        reason=report.failed[key] if failed else report.screened_out[key],
        evaluation=report.numbers[key],
    )
