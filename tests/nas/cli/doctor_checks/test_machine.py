"""Limits and disturbances of a machine are reported; thresholds are tested from both sides."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from hardware_profiles.environment import machine_key
from hardware_profiles.measuring.pace import Speed
from hardware_profiles.measuring.speed_record import FOLDER, SpeedRecord
from nas.cli.doctor_checks import machine
from nas.cli.doctor_checks.finding import Finding, State
from tests.hardware_profiles.energy_counters import counters

ENVIRONMENT = {
    "onnxruntime": "1.22.0", "available_providers": ["CPUExecutionProvider"], "allowed_cpus": 4, "cores": 8, "cpu": "A",
    "quota_cpus": None, "governor": "performance", "load_1m": 0.5, "host": "here",
}  # fmt: skip
Usage = namedtuple("Usage", "total used free")


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: str(finding.state) for finding in findings}


def test_this_machine_as_the_measuring_process_tells_it() -> None:
    environment = machine.environment()
    assert environment["allowed_cpus"] == len(os.sched_getaffinity(0))
    assert set(ENVIRONMENT) <= set(environment)
    assert states(machine.measuring(environment)) == {"onnxruntime": "ok", "profiles": "ok"}
    assert machine.cpus(environment)[0].check == "cpus"


def test_how_well_the_usual_speed_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    record = SpeedRecord(tmp_path, machine_key)
    never = machine.speed(ENVIRONMENT)
    assert (never.state, "until now" in never.observation) == (State.OK, True)
    record.add(ENVIRONMENT, Speed(0.01, 0.11, 1.1, other_load=0.5))
    busy = machine.speed(ENVIRONMENT)
    assert (busy.state, "until now: 1, all beside other work" in busy.observation) == (State.WARNING, True)
    record.add(ENVIRONMENT, Speed(0.01, 0.1, 1.0, other_load=0.01, error=0.02))
    assert machine.speed(ENVIRONMENT).observation == "usual speed known to 2.0 % (quiet measuring sessions: 1)"


def test_profiles_that_a_machine_can_measure() -> None:
    runtime, profiles = machine.measuring({**ENVIRONMENT, "allowed_cpus": 1})
    assert runtime.observation == "ONNX Runtime 1.22.0 with CPUExecutionProvider"
    assert profiles.state is State.OK
    openvino = find_spec("openvino") is not None
    usable, missing = (", cpu-1-thread-openvino", "") if openvino else ("", "cpu-1-thread-openvino, ")
    assert f"cpu-1-thread{usable}, cpu-1-thread-batch-16 (not {missing}cuda, cpu-2-threads, " in profiles.observation


def test_a_machine_that_can_measure_no_profile() -> None:
    _, profiles = machine.measuring({**ENVIRONMENT, "quota_cpus": 0.5})
    assert profiles.state is State.WRONG
    assert "quota" in profiles.remedy


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"cpus": "ok"}),
        ({"governor": None, "load_1m": None}, {"cpus": "ok"}),
        ({"quota_cpus": 4.0}, {"cpus": "ok"}),
        ({"quota_cpus": 3.5}, {"cpus": "warning"}),
        ({"governor": "powersave"}, {"cpus": "ok", "frequency": "warning"}),
        ({"load_1m": 3.9}, {"cpus": "ok"}),
        ({"load_1m": 4.0}, {"cpus": "ok", "load": "warning"}),
    ],
)
def test_limits_and_load_of_the_cpus(change: dict[str, Any], expected: dict[str, str]) -> None:
    assert states(machine.cpus({**ENVIRONMENT, **change})) == expected


def test_whether_energy_can_be_measured_is_told_and_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_POWERCAP", str(tmp_path))
    (missing,) = machine.energy(ENVIRONMENT)
    assert (missing.state, missing.remedy) == (State.OK, "")
    assert f"energy_mj cannot be measured on the CPU: there are no energy counters in {tmp_path}" in missing.observation
    with counters(tmp_path):
        (there,) = machine.energy(ENVIRONMENT)
    assert there.observation.startswith("energy_mj can be measured on the CPU, by package-0, which change every ")
    cpu, gpu = machine.energy({**ENVIRONMENT, "available_providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]})
    assert "package-0 stands still" in cpu.observation
    assert "on the GPU" in gpu.observation


@pytest.mark.parametrize(
    ("isolated", "limit", "expected"),
    [
        ("", 0, ["isolcpus", "rtprio in limits.conf"]),
        ("3", 1, ["NAS_MEASURING_CPUS=3 measures", "NAS_MEASURING_REALTIME=1 measures"]),
    ],
)
def test_a_busy_machine_is_told_what_would_help(
    isolated: str, limit: int, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("nas.cli.doctor_checks.machine.resource.getrlimit", lambda _: (limit, limit))
    (tmp_path / "isolated").write_text(f"{isolated}\n")
    found = machine._less_disturbed(tmp_path / "isolated")
    assert [part in found for part in expected] == [True, True]


@pytest.mark.parametrize(
    ("environ", "state"),
    [
        ({"OMP_WAIT_POLICY": "passive"}, State.OK),
        ({"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "4"}, State.OK),
        ({}, State.WARNING),
        ({"OMP_WAIT_POLICY": "active"}, State.WARNING),
        ({"OMP_WAIT_POLICY": "passive", "MKL_NUM_THREADS": "5"}, State.WARNING),
    ],
)
def test_threads(environ: dict[str, str], state: State) -> None:
    found = machine.threads(environ, 4)
    assert found.state is state
    assert bool(found.remedy) is (state is not State.OK)


@pytest.mark.parametrize(("free", "state"), [(2 * 1024**2, "ok"), (2 * 1024**2 - 1, "warning")])
def test_memory(tmp_path: Path, free: int, state: str) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       16384000 kB\nMemFree:  1 kB\nMemAvailable:   {free} kB\nHugePages_Total: 0\n")
    assert states(machine.memory(meminfo, tmp_path / "none")) == {"memory": state}


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(64 * 1024**2, 0, 64 * 1024**2))
    assert states(machine.memory(shared=tmp_path))["shared memory"] == "warning"


def test_a_system_that_does_not_tell_its_memory(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("nothing here\n")
    assert states(machine.memory(tmp_path / "meminfo")) == {"memory": "warning"}


@pytest.mark.parametrize(
    ("free", "state"),
    [(machine.FEW_DISK, State.OK), (machine.FEW_DISK - 1, State.WARNING), (machine.NO_DISK - 1, State.WRONG)],
)
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State) -> None:
    checked: list[Path] = []

    def usage(path: Path) -> Usage:
        checked.append(path)
        return Usage(10 * free, 9 * free, free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert machine.disk(tmp_path / "not" / "yet").state is state
    assert checked == [tmp_path]
