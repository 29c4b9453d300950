"""The evaluated networks of a search, those that failed included: filtered, sorted, and in pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.errors import SelectionError
from nas.results.analysis.network_selection import parse_limits
from nas.results.analysis.network_values import Points, values_of
from nas.results.analysis.report import RunReport
from nas.search.problem.objectives import Objective
from nas.service.api import schemas
from nas.service.views.networks import networks
from supernets.space import Architecture

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


def page(report: RunReport, query: NetworkQuery, *, offset: int = 0, limit: int = 1000) -> schemas.NetworksPage:
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
