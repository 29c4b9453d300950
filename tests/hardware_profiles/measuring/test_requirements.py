"""What a machine lacks is told in a sentence with what to do, and by the profiler before anything is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ProfileError
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.measuring.requirements import unmet_requirement
from tests.hardware_profiles.machine import FIT, Machine

PROFILE = HardwareProfile("p", threads=2)


def test_a_machine_that_has_what_is_asked_for_is_fit() -> None:
    assert unmet_requirement(PROFILE, FIT) == ""
    assert unmet_requirement(PROFILE, {**FIT, "quota_cpus": 2.0}) == ""


def test_each_thread_needs_a_cpu_of_its_own() -> None:
    assert unmet_requirement(replace(PROFILE, threads=3), FIT) == (
        "3 threads were asked for, each on a CPU of its own, and the process may use 2 CPUs on board; take a profile of "
        "fewer threads or allow it more CPUs"
    )


@pytest.mark.parametrize(("threads", "quota", "words"), [(2, 1.5, "2 threads were"), (1, 0.25, "1 thread was")])
def test_threads_that_the_quota_would_stop_are_refused(threads: int, quota: float, words: str) -> None:
    assert unmet_requirement(replace(PROFILE, threads=threads), {**FIT, "quota_cpus": quota}) == (
        f"{words} asked for, and control groups grant the process the time of {quota:g} CPUs on board; take a profile of "
        "fewer threads, or raise the quota (of a container: its CPU limit)"
    )


def test_a_provider_that_the_runtime_lacks_is_refused_with_those_that_it_has() -> None:
    told = unmet_requirement(replace(PROFILE, provider="NoSuchProvider"), FIT)
    for word in ("'NoSuchProvider'", "ONNX Runtime 1.32.0 on board has CPUExecutionProvider;", "change the profile"):
        assert word in told


def test_the_profiler_says_so_before_it_measures() -> None:
    machine = Machine({})
    with (
        WorkerProfiler(replace(PROFILE, threads=1000), lambda: machine) as profiler,
        pytest.raises(ProfileError, match=r"profile p: 1000 threads were asked for"),
    ):
        profiler.environment()
