"""`nas.jobs.build.search_objects`: what a search is made with."""

from __future__ import annotations

from pathlib import Path

from nas.engine.evaluation.metric import MeasuredNetwork
from nas.jobs.build.search_objects import build_algorithm
from tests.nas.jobs.build.jobs import prepared


def test_constrained_metrics_are_measured_and_known_to_the_search(tmp_path: Path) -> None:
    job = prepared(tmp_path, "constraints: {latency_ms: {max: 2}, parameters: {max: 1.0e+5}, peak_mib: {max: 9}}\n")
    assert [o.name for o in job.job.metrics] == [
        "accuracy", "latency_ms@cpu-1-thread", "parameters", "peak_mib@cpu-1-thread",
    ]  # fmt: skip
    build_algorithm(job, job.untrained())


class Meter:
    """A metric that an external meter would give."""

    unit, goal, per_profile = "mJ", "minimize", True

    def measure(self, network: MeasuredNetwork) -> tuple[float, float]:
        return float(network.cost.macs), 0.0


def test_energy_is_measured_where_a_job_names_it_and_no_metric_of_its_own(tmp_path: Path) -> None:
    limit = "constraints: {energy_mj: {max: 2}}\n"
    assert prepared(tmp_path, "").job.energy_profiles == frozenset()
    assert prepared(tmp_path, limit).job.energy_profiles == {"cpu-1-thread"}
    own = prepared(tmp_path, f"{limit}metrics: {{energy_mj: {__name__}:Meter}}\n").job
    assert [o.name for o in own.metrics][-1] == "energy_mj@cpu-1-thread"
    assert own.energy_profiles == frozenset()
