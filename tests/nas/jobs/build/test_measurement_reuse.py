"""What a run takes from others; the whole path is in `cli.test_whole_path`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from nas.engine.store.memory import MemoryStore
from nas.engine.store.run_facts import ReusedRun
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.measurement_reuse import _results, prior_evaluations
from nas.search.problem.objectives import Measurement, Objective, Status
from nas.search.problem.variants import Variants
from nas.search.warm_start import promising
from supernets.space import Architecture
from tests.contracts.run_facts import search_facts

OBJECTIVES = [Objective.parse(name, ["cpu"]) for name in ("accuracy", "latency_ms")]
GOOD, FAST, POOR, BROKEN = (Architecture((gene,)) for gene in range(4))


def test_networks_that_were_left_or_failed_teach_but_are_not_asked_for_first() -> None:
    """Among those without accuracy, the fastest would be a front of their own."""
    store, (accuracy, latency), request = MemoryStore(), OBJECTIVES, Variants().request
    for architecture, share, ms in ((GOOD, 0.9, 3.0), (FAST, 0.8, 1.0)):
        store.add(Measurement(request(architecture, accuracy), Status.OK, share, 0.01))
        store.add(Measurement(request(architecture, latency), Status.OK, ms, 0.1))
    store.add(Measurement(request(POOR, latency), Status.OK, 2.0, 0.1))
    store.add(Measurement(request(POOR, accuracy), Status.SKIPPED, None, None, message="dominated by the front"))
    store.add(Measurement(request(BROKEN, accuracy), Status.FAILED, None, None, message="it broke"))
    store.add(Measurement(request(BROKEN, latency), Status.FAILED, None, None, message="it broke"))

    learnt = _results(
        store,
        ReusedRun("earlier-1", ("cpu",)),
        cast(BuiltJob, SimpleNamespace(job=SimpleNamespace(variants=Variants()))),
    )
    store.describe(search_facts(prior_results=tuple(learnt)))
    evaluations = prior_evaluations(store.search_facts())
    assert [e.architecture for e in evaluations] == [GOOD, FAST, POOR]
    assert evaluations[2].value(latency) == 2.0
    assert evaluations[2].screened_out
    assert set(promising(evaluations, OBJECTIVES)) == {GOOD, FAST}
