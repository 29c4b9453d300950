"""Energy by the real worker, of a counter that a process of its own advances with CPU time (a simulated counter)."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_profiles.base import Deployment, Graph, HardwareProfile, LatencyMeasurement
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.measuring.worker import energy_counters
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.transports.connection import LocalConnection, local_command, worker_environment
from nas.plugins.testing.onnx_networks import conv_net
from tests.errors import raises
from tests.hardware_profiles.energy_counters import BUSY_W, IDLE_W, counters

PROFILE = HardwareProfile("metered")
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
SMALL, LARGE = (Deployment.single(conv_net(*size), {"x": IMAGE}) for size in ((16, 3), (64, 6)))


def measured(profiler: WorkerProfiler, *deployments: Deployment) -> list[LatencyMeasurement]:
    found = list(profiler.measure(deployments))
    assert all(isinstance(result, LatencyMeasurement) for result in found), found
    return [result for result in found if isinstance(result, LatencyMeasurement)]


def watts(found: LatencyMeasurement) -> float:
    """The power while the model runs, above waiting: millijoules over mean CPU milliseconds of a call."""
    assert found.energy_mj is not None
    return found.energy_mj / float(np.mean(found.raw_cpu_ms))


def package(folder: Path) -> Path:
    """A folder with a counter that nothing advances."""
    zone = folder / "intel-rapl:0"
    zone.mkdir()
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "1000000")):
        (zone / name).write_text(f"{text}\n")
    return zone


def test_one_measurement_has_latency_and_the_energy_of_cpu_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = Deployment((Graph(conv_net(64, 6), ({"x": IMAGE},), calls=2),))
    with counters(tmp_path):
        monkeypatch.setenv("NAS_POWERCAP", str(tmp_path))
        with open_profiler(PROFILE, energy=True) as profiler:
            small, large, two = measured(profiler, SMALL, LARGE, twice)
    for found in (small, large):
        assert found.energy_mj is not None
        assert found.energy_error_mj is not None
        # The model's power is the simulated one; the mean CPU time is that of other, shorter rounds.
        assert watts(found) == pytest.approx(BUSY_W, rel=0.3, abs=found.energy_error_mj / found.latency_ms)
        assert found.energy_failure == ""
    assert (small.energy_mj or 0) < (large.energy_mj or 0) < (two.energy_mj or 0)
    about = large.environment["energy"]
    assert about["counters"] == ["package-0"]
    assert about["waiting_w"] == pytest.approx(IDLE_W, rel=0.3)
    assert 4 <= about["rounds"] <= 6
    assert about["protocol"] == "energy-above-waiting/v1"
    assert 0 <= about["others_cpus"] <= 1.5


@pytest.mark.slow
def test_a_counter_that_begins_again_many_times_is_read_often_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 16 W, 4 J are counted in a quarter of a second, as at twice the stated limit: reads are half of that apart."""
    with counters(tmp_path, range_uj=4_000_000, limit_uw=8_000_000):
        monkeypatch.setenv("NAS_POWERCAP", str(tmp_path))
        with open_profiler(PROFILE, energy=True) as profiler:
            (large,) = measured(profiler, LARGE)
    assert watts(large) == pytest.approx(BUSY_W, rel=0.4)


def test_a_counter_that_may_have_begun_again_twice_gives_no_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counters(tmp_path, range_uj=1_000):  # of an assumed kilowatt, within a microsecond
        monkeypatch.setenv("NAS_POWERCAP", str(tmp_path))
        with open_profiler(PROFILE, energy=True) as profiler, raises("profile.no-energy", "package-0", "begin again"):
            profiler.environment()


def test_a_machine_without_counters_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_POWERCAP", str(tmp_path))
    with open_profiler(PROFILE) as plain:
        assert "energy" not in plain.environment()
    with (
        open_profiler(PROFILE, energy=True) as profiler,
        raises("profile.no-energy", "metered", str(tmp_path), "virtual machines", "modprobe intel_rapl_msr"),
    ):
        profiler.environment()


def test_a_counter_that_stands_still_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path)
    monkeypatch.setenv("NAS_POWERCAP", str(tmp_path))
    with open_profiler(PROFILE, energy=True) as profiler, raises("profile.no-energy", "package-0 stands still"):
        profiler.environment()


UNPRIVILEGED = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
"""Starts a command for which, as for any user, root's own files may be forbidden."""


def test_a_counter_that_may_not_be_read_is_told_with_the_remedy(tmp_path: Path) -> None:
    prefix = UNPRIVILEGED if os.geteuid() == 0 else []
    if prefix and (shutil.which(prefix[0]) is None or subprocess.run([*prefix, "true"], check=False).returncode):
        pytest.skip("root may read every file here")
    (package(tmp_path) / "energy_uj").chmod(0o000)
    environment = {**worker_environment(1), "NAS_POWERCAP": str(tmp_path)}

    def connect() -> LocalConnection:
        return LocalConnection([*prefix, *local_command()], environment)

    profiler = WorkerProfiler(PROFILE, connect, energy=True)
    with profiler, raises("profile.no-energy", "only root may read", "chmod a+r", "/etc/udev/rules.d"):
        profiler.environment()


class Disturbed(LocalConnection):
    """A real worker whose counter is disturbed before the third round of energy."""

    def __init__(self, folder: Path, disturb: Callable[[], None]) -> None:
        super().__init__(local_command(), {**worker_environment(1), "NAS_POWERCAP": str(folder)})
        self._disturb, self._rounds = disturb, 0

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        self._rounds += command["do"] == "energy"
        if command["do"] == "energy" and self._rounds == 3:
            self._disturb()
        super().send(command, payloads)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "still"])
def test_a_counter_that_fails_in_the_middle_leaves_the_latency(tmp_path: Path, how: str) -> None:
    file = tmp_path / "intel-rapl:0" / "energy_uj"

    def disturb() -> None:
        file.unlink()
        if how == "still":  # another file, which the process does not write
            file.write_text("5000000\n")

    with counters(tmp_path), WorkerProfiler(PROFILE, lambda: Disturbed(tmp_path, disturb), energy=True) as profiler:
        (found,) = measured(profiler, SMALL)
    assert found.latency_ms > 0
    assert (found.energy_mj, found.energy_error_mj) == (None, None)
    assert {"gone": "No such file", "still": "stood still"}[how] in found.energy_failure
    assert found.environment["energy"]["failure"] == found.energy_failure


@pytest.fixture
def domain(tmp_path: Path) -> Any:
    zone = package(tmp_path)
    (zone / "max_energy_range_uj").write_text("1000000\n")
    (zone / "energy_uj").write_text("900000\n")
    return energy_counters.RaplDomain(zone)


def test_a_counter_continues_where_it_begins_again(
    domain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, now = tmp_path / "intel-rapl:0" / "energy_uj", [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert domain.span_s == pytest.approx(1e-3)  # a joule at a kilowatt
    domain.restart()
    total = 0
    for added in (50_000, 60_000, 990_000, 0, 980_000):  # of a microjoule, from 900 000
        total += added
        now[0] += 0.0009
        file.write_text(f"{(900_000 + total) % 1_000_000}\n")
        assert domain.read() == total
    now[0] += 0.0011
    with pytest.raises(OverflowError, match=r"not read for 0\.0011 s"):
        domain.read()
    domain.restart()
    assert domain.read() == 0


def test_the_package_of_the_cpus_and_its_memory_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = min(os.sched_getaffinity(0))
    own = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id").read_text().strip()
    names = {
        "intel-rapl:0": "package-1234", "intel-rapl:0:0": "dram", "intel-rapl:1": f"package-{own}-die-0",
        "intel-rapl:1:0": "core", "intel-rapl:1:1": "dram", "intel-rapl:2": "psys", "intel-rapl-mmio:0": f"package-{own}",
    }  # fmt: skip
    for folder, name in names.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "name").write_text(f"{name}\n")
        (tmp_path / folder / "energy_uj").write_text("1\n")
    find = energy_counters._rapl_domains
    monkeypatch.setenv("NAS_POWERCAP", str(tmp_path))
    assert [domain.name for domain in find([cpu])] == [f"package-{own}-die-0", "dram"]
    (tmp_path / "intel-rapl:1" / "name").write_text("package-4321\n")  # numbers that say nothing of these CPUs: all
    assert [domain.name for domain in find([cpu])] == ["package-1234", "dram", "package-4321", "dram"]


NVML = """
static unsigned long long energy = 5000;
int nvmlInit_v2(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 3 ? "Not Supported" : "Unknown"; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) {
    *gpu = (void *)(0x7f0000000000UL + index);
    return index > 1 ? 2 : 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **gpu) { *gpu = (void *)0x7f0000000001UL; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *found) {
    if (gpu == (void *)0x7f0000000000UL) return 3;
    *found = energy += 7;
    return 0;
}
"""
"""A library with NVML's functions: GPU 0 has no energy counter, GPU 1 adds 7 mJ with each read."""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(NVML)
    command = ["gcc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", folder / "nvml.c"]
    subprocess.run(command, check=True)
    return str(folder / "libnvidia-ml.so.1")


@pytest.mark.parametrize("visible", ["1", "GPU-0a1b,0"])
def test_the_gpu_that_is_visible_is_read_by_nvml(nvml: str, visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpu = energy_counters.GpuEnergy(nvml)
    assert [gpu.read(), gpu.read()] == [7000, 14000]
    gpu.restart()
    assert gpu.read() == 7000
    assert gpu.name in ("gpu 1", "GPU-0a1b")


def test_gpus_without_a_counter_and_machines_without_nvml_are_told(
    nvml: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    error = energy_counters.NoEnergyError
    with pytest.raises(
        error, match=r"nvmlDeviceGetTotalEnergyConsumption fails: Not Supported \(3\); GPUs before Volta"
    ):
        energy_counters.GpuEnergy(nvml)
    with pytest.raises(error, match="NVML cannot be loaded"):
        energy_counters.GpuEnergy(str(tmp_path / "none.so"))
    libc = ctypes.util.find_library("c")
    with pytest.raises(error, match="has no nvmlInit_v2"):
        energy_counters.GpuEnergy(libc)
    with pytest.raises(error, match="no energy counter is known for ROCMExecutionProvider"):
        energy_counters.energy_counters([0], "ROCMExecutionProvider")
