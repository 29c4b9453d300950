"""The provenance that the manifest of an exported network records."""

from __future__ import annotations

from dataclasses import replace

from nas.results.analysis.report import build_report
from nas.results.export.provenance import Provenance
from nas.search.problem.objectives import Fidelity, Status
from tests.nas.results.export.runs import TWO, example_run


def test_a_failed_final_measurement_leaves_the_one_of_the_search() -> None:
    store = example_run(TWO)
    report = build_report(store, run="example-1")
    point, latency = report.front[0], report.objectives[1]
    provenance = Provenance("example-1", report.metrics, report.profiles, store.search_facts().variants, store)
    assert provenance.measured_with(latency, point)["fidelity"] == "final"
    (final,) = (
        m
        for m in store.measurements(Fidelity.FINAL)
        if (m.request.architecture, m.request.metric) == (point.architecture, latency.metric)
    )
    failed = replace(final, status=Status.FAILED, value=None, error=None, attempt=1, environment={"noise": 0.4})
    store.add(failed)
    recorded = provenance.measured_with(latency, point)
    assert recorded["fidelity"] == "search"
    assert recorded["environment"] != failed.environment
