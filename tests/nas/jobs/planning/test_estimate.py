"""`nas.jobs.planning.estimate`: the parts of a job's time and their ranges; their length is not tested."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nas.engine.process_memory import PeakMemory
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.build.measurement_reuse import Reuse
from nas.jobs.planning.estimate import Span, Times, _ask_sizes, estimate, mean_seconds
from nas.jobs.planning.plan import plan
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from tests.nas.commands import SMALL_JOB


def test_every_part_of_a_job_has_a_time_in_its_range(tmp_path: Path) -> None:
    text = SMALL_JOB.replace("cpu-1-thread]", "cpu-1-thread]\nprecisions: [fp32, int8]").replace("guided", "nsga2")
    built_job = build_job(ResolvedJob(parse_job(text, source="job"), RunsFolder(tmp_path)))
    with PeakMemory() as peak:
        times, memory = estimate(built_job, built_job.current(), peak, inline=True, start_s=3.0)
    parts = times.parts()
    assert list(parts) == ["start", "training", "search", "final", "report", "total"]
    assert parts["start"].seconds == 3.0
    for span in parts.values():
        assert 0 <= span.low <= span.seconds <= span.high
        assert span.high > 0
    assert re.match(r"measured: \d+ steps, \d+ ms each, for 60;", parts["training"].origin)
    assert "measured on cpu-1-thread" in parts["search"].origin
    assert parts["final"].origin.startswith("estimated")
    total = times.to_json()["total"]
    assert total["seconds"] == pytest.approx(sum(parts[name].seconds for name in list(parts)[:-1]))
    assert 0 < memory.measured_mib < memory.mib
    assert memory.low < memory.mib < memory.high
    assert "Ray" not in memory.origin + parts["start"].origin
    # A budget of minutes bounds the search.
    job = parse_job(text.replace("batch: 7", "batch: 7, minutes: 0.001"), source="job")
    built_job = build_job(ResolvedJob(job, RunsFolder(tmp_path)))
    with PeakMemory() as peak:
        with_ray, memory_with_ray = estimate(built_job, built_job.current(), peak, inline=False, start_s=3.0)
    bounded = with_ray.search
    assert with_ray.start.seconds > 3.0
    assert "for Ray" in with_ray.start.origin
    assert memory_with_ray.mib > memory.mib + 300
    assert bounded.low <= bounded.seconds <= bounded.high <= 0.06


def test_a_trained_supernet_takes_no_training() -> None:
    span = Span(10.0, 8.0, 12.0, "measured")
    times = Times(span, None, span, replace(span, high=20.0), span)
    assert list(times.parts()) == ["start", "search", "final", "report", "total"]
    assert (times.total.seconds, times.total.low, times.total.high) == (40.0, 32.0, 56.0)


def test_asks_are_timed_after_few_evaluations_first() -> None:
    assert _ask_sizes(1) == [1, 1]
    assert _ask_sizes(59) == [29, 59]
    sizes = _ask_sizes(19_999)
    assert (sizes[0] <= 256, sizes[-1]) == (True, 19_999)
    assert all(1.9 < after / before < 2.1 for before, after in itertools.pairwise(sizes))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_time_of_further_asks_follows_from_the_growth(power: float) -> None:
    """The mean of n^p over 1 to N is about N^p / (p + 1)."""
    sizes = [25, 50, 100, 200, 400]
    mean = mean_seconds(sizes, [1e-6 * n**power for n in sizes], 10_000)
    assert mean == pytest.approx(1e-6 * 10_000**power / (power + 1), rel=0.02)


def test_growth_is_bounded() -> None:
    assert mean_seconds([1, 1], [0.1, 0.2], 1) == pytest.approx(0.2, rel=0.6)
    assert mean_seconds([10, 20], [0.1, 0.01], 1000) <= 0.1
    assert mean_seconds([10, 20], [1e-4, 1.0], 40) <= 2.0


def test_a_budget_above_the_space_is_stated_and_counts_as_the_space(tmp_path: Path) -> None:
    text = SMALL_JOB.replace("guided", "random")
    built_job = build_job(ResolvedJob(parse_job(text, source="job"), RunsFolder(tmp_path)))
    config = built_job.job.config
    size = built_job.space.size
    larger = config.model_copy(update={"search": config.search.model_copy(update={"evaluations": size + 1000})})
    built_job = build_job(ResolvedJob(larger, RunsFolder(tmp_path)))
    job_plan = plan(built_job, Reuse(), time=False)
    assert f"{size + 1000:,}" in job_plan.budget_note
    assert f"{size:,} architectures" in job_plan.budget_note
    assert job_plan.budget_note in job_plan.to_json()["warnings"]
    assert plan(build_job(ResolvedJob(config, RunsFolder(tmp_path))), Reuse(), time=False).budget_note == ""
