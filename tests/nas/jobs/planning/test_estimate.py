"""`nas.jobs.planning.estimate`: the parts of a job's time and their ranges; their length is not tested."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.planning.estimate import Span, Times, estimate
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from tests.nas.commands import SMALL_JOB


def test_every_part_of_a_job_has_a_time_in_its_range(tmp_path: Path) -> None:
    text = SMALL_JOB.replace("cpu-1-thread]", "cpu-1-thread]\nprecisions: [fp32, int8]").replace("guided", "nsga2")
    built_job = build_job(ResolvedJob(parse_job(text, source="job"), RunsFolder(tmp_path)))
    times = estimate(built_job, built_job.current(), inline=True)
    parts = times.parts()
    assert list(parts) == ["training", "search", "final", "total"]
    for span in parts.values():
        assert 0 <= span.low <= span.seconds <= span.high
        assert span.high > 0
    assert re.match(r"measured: \d+ steps, \d+ ms each, for 60;", parts["training"].origin)
    assert "measured on cpu-1-thread" in parts["search"].origin
    assert parts["final"].origin.startswith("estimated")
    total = times.to_json()["total"]
    assert total["seconds"] == pytest.approx(sum(parts[name].seconds for name in ("training", "search", "final")))
    # A budget of minutes bounds the search.
    job = parse_job(text.replace("batch: 7", "batch: 7, minutes: 0.001"), source="job")
    built_job = build_job(ResolvedJob(job, RunsFolder(tmp_path)))
    bounded = estimate(built_job, built_job.current(), inline=True).search
    assert bounded.low <= bounded.seconds <= bounded.high <= 0.06


def test_a_trained_supernet_takes_no_training() -> None:
    span = Span(10.0, 8.0, 12.0, "measured")
    times = Times(None, span, replace(span, high=20.0))
    assert list(times.parts()) == ["search", "final", "total"]
    assert (times.total.seconds, times.total.low, times.total.high) == (20.0, 16.0, 32.0)
