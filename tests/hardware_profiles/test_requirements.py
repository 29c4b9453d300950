"""A machine that lacks what a profile requires is rejected, by the profiler before anything is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.requirements import check_requirements
from tests.errors import raises
from tests.hardware_profiles.machine import FIT, Machine

PROFILE = HardwareProfile("p", threads=2)


def test_a_machine_that_meets_the_requirements_is_accepted() -> None:
    check_requirements(PROFILE, FIT)
    check_requirements(PROFILE, {**FIT, "quota_cpus": 2.0})


def test_each_thread_needs_a_cpu_of_its_own() -> None:
    with raises("profile.too-few-cpus", "profile p ", "3 CPUs", "use 2 on board", "fewer threads"):
        check_requirements(replace(PROFILE, threads=3), FIT)


@pytest.mark.parametrize(("threads", "quota", "needed"), [(2, 1.5, "2 CPUs"), (1, 0.25, "one CPU")])
def test_a_quota_below_the_number_of_threads_is_rejected(threads: int, quota: float, needed: str) -> None:
    with raises("profile.too-few-cpus", needed, f"{quota:g}", "board", "quota") as caught:
        check_requirements(replace(PROFILE, threads=threads), {**FIT, "quota_cpus": quota})
    assert ("fewer threads" in str(caught.value)) == (threads > 1)


@pytest.mark.parametrize(
    ("provider", "suggested"),
    [("CPUProvider", True), ("NoSuchThing", False), ("CUDAExecutionProvider", False)],
)
def test_a_missing_provider_is_rejected_with_the_available_ones(provider: str, suggested: bool) -> None:
    with raises("profile.provider-unavailable", f"'{provider}'", "1.32.0 on board has CPUExecutionProvider;") as caught:
        check_requirements(replace(PROFILE, provider=provider), FIT)
    assert ("did you mean 'CPUExecutionProvider'" in str(caught.value)) == suggested


def test_the_profiler_checks_before_it_measures() -> None:
    machine = Machine({})
    with (
        WorkerProfiler(replace(PROFILE, threads=1000), lambda: machine) as profiler,
        raises("profile.too-few-cpus", "profile p ", "1000"),
    ):
        profiler.environment()
    assert machine.sessions == []
