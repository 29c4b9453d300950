"""`nas.build.search_objects`: what a search is made with."""

from __future__ import annotations

from pathlib import Path

from nas.build.search_objects import build_algorithm
from tests.nas.build.jobs import prepared


def test_constrained_metrics_are_measured_and_known_to_the_search(tmp_path: Path) -> None:
    job = prepared(tmp_path, "constraints: {latency_ms: {max: 2}, parameters: {max: 1.0e+5}, peak_mib: {max: 9}}\n")
    assert [o.name for o in job.job.metrics] == [
        "accuracy", "latency_ms@cpu-1-thread", "parameters", "peak_mib@cpu-1-thread",
    ]  # fmt: skip
    build_algorithm(job, job.supernets.untrained())
