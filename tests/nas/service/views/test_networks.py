"""Lists of evaluated networks, compared with the same filters and sorting of plain values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.engine.store.memory import MemoryStore
from nas.results.analysis.report import RunReport, build_report
from nas.search.problem.objectives import Measurement, Request, Status
from nas.service.api import schemas
from nas.service.views.networks import NetworkQuery, counts, networks_page
from supernets.space import Architecture
from tests.errors import raises
from tests.nas.results.export.runs import SPACE, TWO, example_run, fail, figure

LATENCY = TWO[1]


def report_of() -> tuple[RunReport, list[Architecture]]:
    """A search with its two last networks failed, one before these noisy and one screened out; and these four."""
    store = MemoryStore()
    example_run(n=40, store=store)
    objectives = store.search_facts().objectives
    known = {a for step in store.asks() for a in step}
    rng = np.random.default_rng(7)
    further = list(dict.fromkeys(a for a in (SPACE.sample(rng) for _ in range(200)) if a not in known))[:4]
    store.record_ask(len(store.asks()), further)
    noisy, screened, *failed = further
    for objective in objectives:
        value, error = figure(noisy, objective)
        request = Request(noisy, objective.metric, objective.profile)
        store.add(Measurement(request, Status.NOISY if objective.profile else Status.OK, value, error))
        request = replace(request, architecture=screened)
        store.add(Measurement(request, Status.SKIPPED, None, None, message="too slow"))
    for architecture in failed:
        fail(store, architecture, objectives)
    return build_report(store, run="example-1"), further


def keys(report: RunReport, query: NetworkQuery) -> list[str]:
    return [network.key for network in networks_page(report, query).networks]


def test_each_status_lists_its_networks() -> None:
    report, (noisy, screened, *failed) = report_of()
    others = [p.key for p in report.evaluated if p.architecture != noisy]
    expected: dict[schemas.NetworkStatus, list[str]] = {
        "all": [*others, *(a.key for a in (noisy, screened, *failed))],
        "front": [p.key for p in report.front],
        "measured": others,
        "noisy": [noisy.key],
        "failed": [a.key for a in failed],
        "screened-out": [screened.key],
    }
    for status, wanted in expected.items():
        assert keys(report, NetworkQuery(status)) == wanted
        assert counts(report)[status] == len(wanted)
    assert keys(report, NetworkQuery()) == [*others, noisy.key]
    assert [n.reason for n in networks_page(report, NetworkQuery("failed")).networks] == ["the worker died"] * 2
    numbers = [n.evaluation for n in networks_page(report, NetworkQuery("all")).networks]
    assert numbers == list(range(1, 45))
    statuses = [n.status for n in networks_page(report, NetworkQuery("all"), offset=39).networks]
    assert statuses == ["measured", "noisy", "screened-out", "failed", "failed"]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", [*TWO, "test"])
def test_networks_are_sorted_with_those_without_a_value_last(sort: str, descending: bool) -> None:
    report, _ = report_of()
    found = networks_page(report, NetworkQuery("all", None, sort, descending)).networks
    values = [
        (None if n.test is None else n.test.value) if sort == "test" else n.figures[sort].value if n.figures else None
        for n in found
    ]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=descending)
    assert values[len(known) :] == [None] * (len(values) - len(known))
    assert len(known) == (40 if sort == "test" else 41)


def test_limits_apply_to_final_values() -> None:
    report, _ = report_of()
    final = {p.key: p for p in [*report.evaluated, *report.candidates]}  # the last of a key stays
    wanted = [p.key for p in final.values() if p.values[LATENCY] <= 0.5 and p.values["accuracy"] >= 0.75]
    assert 0 < len(wanted) < len(final)
    found = networks_page(report, NetworkQuery("all", "latency_ms<=0.5, accuracy>=0.75"))
    assert [n.key for n in found.networks] == wanted
    assert found.total == len(wanted)
    for network in found.networks:
        assert network.figures[LATENCY].value == final[network.key].values[LATENCY]


def test_pages_are_parts_of_the_whole() -> None:
    report, _ = report_of()
    whole = keys(report, NetworkQuery("all", None, LATENCY))
    parts = [networks_page(report, NetworkQuery("all", None, LATENCY), offset=at, limit=15) for at in (0, 15, 30, 45)]
    assert [n.key for part in parts for n in part.networks] == whole
    assert {part.total for part in parts} == {44}


def test_a_metric_that_was_not_measured_is_named() -> None:
    report, _ = report_of()
    with raises("selection.invalid", "macs"):
        networks_page(report, NetworkQuery(sort="macs"))
    with raises("selection.unknown-metric", "macs"):
        networks_page(report, NetworkQuery(select="macs<=1"))
