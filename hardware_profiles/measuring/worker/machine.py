"""What the system reports of this machine: its CPUs, their load and limits, its memory and GPUs."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

GPUS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
"""Providers that run on an NVIDIA GPU."""


def file_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):  # some kernels and boards lack some files
        return ""


def fields_of(path: str) -> dict[str, list[str]]:
    """The values of a file's lines ``key: value``, by key."""
    fields: dict[str, list[str]] = {}
    for line in file_text(path).splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), []).append(value.strip())
    return fields


def cpu_name_and_flags() -> tuple[str, list[str]]:
    """The processor's name (on ARM, the board's name and its part numbers), and its flags, sorted."""
    lines = fields_of("/proc/cpuinfo")
    names = [lines[key][0] for key in ("model name", "Model", "Hardware", "uarch") if key in lines][:1]
    parts = sorted({f"part {part}" for part in lines.get("CPU part", [])})
    flags = (lines.get("flags") or lines.get("Features") or lines.get("isa") or [""])[0].split()
    return " ".join(names + parts) or platform.processor() or platform.machine(), sorted(set(flags))


def device(provider: str, root: str = "/proc/driver/nvidia") -> str | None:
    """The model and driver of a GPU provider's GPU, as the system reports them; None for other providers.

    With GPUs of several models, all of them, and the ones that the process may use.
    """
    if provider not in GPUS:
        return None
    names_by_gpu = [fields_of(str(file)).get("Model", []) for file in Path(root, "gpus").glob("*/information")]
    models = sorted({model for names in names_by_gpu for model in names})
    if len(models) > 1:
        models.append(f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
    version = next(
        (word for word in file_text(f"{root}/version").split() if word[0].isdigit() and "." in word), "unknown"
    )
    return ", ".join([*(models or ["unknown GPU"]), f"driver {version}"])


def cpu_quota(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> float | None:
    """The CPU quota of this process's control groups, the least of all levels; None without a limit."""
    limits = []
    for line in file_text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder, group = Path(root, "cpu" if controllers else ""), Path(path.lstrip("/"))
        for level in (group, *group.parents):  # a container may see its own group as the root
            if controllers:
                quota, period = (file_text(str(folder / level / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
            else:
                quota, _, period = file_text(str(folder / level / "cpu.max")).partition(" ")
            if quota.isdigit() and period.isdigit() and int(period) > 0:  # without a limit: "max" or -1
                limits.append(int(quota) / int(period))
    return min(limits) if limits else None


def memory_mib(meminfo: str = "/proc/meminfo", limit: str = "/sys/fs/cgroup/memory.max") -> int | None:
    """The memory of this machine, or what its control group may use of it; None where the system does not report it."""
    total = fields_of(meminfo).get("MemTotal", [""])[0].split()
    limits_mib = [int(total[0]) // 1024] if total and total[0].isdigit() else []
    text = file_text(limit)
    return min([*limits_mib, int(text) // 2**20] if text.isdigit() else limits_mib, default=None)


def _ticks(cpus: list[int] | None) -> list[list[int]]:
    """The counts of these CPUs in /proc/stat, or of all together: user, nice, system, idle, I/O wait, two kinds of interrupts,
    steal; what follows is included in these. Empty where there is none."""
    labels = {"cpu"} if cpus is None else {f"cpu{cpu}" for cpu in cpus}
    lines = (line.split() for line in file_text("/proc/stat").splitlines() if line.startswith("cpu"))
    return [[int(value) for value in values[:8]] for name, *values in lines if name in labels]


def cpu_times(cpus: list[int]) -> tuple[int, int]:
    """Ticks of these CPUs that the hypervisor gave to others, and all ticks."""
    ticks = _ticks(cpus)
    return sum(counts[7] for counts in ticks if len(counts) > 7), sum(map(sum, ticks))


def busy_s(cpus: list[int] | None) -> float:
    """Seconds, to a hundredth, for which any process or interrupt used these CPUs; None: all."""
    return sum(counts[i] for counts in _ticks(cpus) for i in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")


def suspended_s() -> float:
    """Seconds for which this machine has been suspended since it started; the clocks of runs stand still meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def changing_facts(cpus: list[int]) -> dict[str, Any]:
    """The part of the environment that may change while this process lives, and affects the CPUs' speed."""
    governor = file_text(f"/sys/devices/system/cpu/cpu{cpus[0]}/cpufreq/scaling_governor")
    load = file_text("/proc/loadavg").split()
    return {"quota_cpus": cpu_quota(), "governor": governor or None, "load_1m": float(load[0]) if load else None}
