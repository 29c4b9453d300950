"""Whether the machine can train, search and measure: its CPUs, threads, memory and disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.doctor.finding import Finding, ok, warning, wrong

_GIB = 1024**3
FEW_DISK, NO_DISK = 5 * _GIB, _GIB // 2
"""A supernet's checkpoint with its optimiser and the exports of a run take up to some gigabytes; a small run, some ten MiB."""
FEW_MEMORY = 2 * _GIB
"""A driver, two workers and Ray's own processes take about so much on the digits."""
FEW_SHARED = _GIB
"""Ray keeps the supernet's weights and the images there once for all of its workers."""
_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment() -> dict[str, Any]:
    """What the measuring process would say of this machine.

    Raises:
        ImportError: ONNX Runtime cannot be loaded.
    """
    from hardware_profiles.measuring.worker import environment_of

    return environment_of(sorted(os.sched_getaffinity(0))[:1], "CPUExecutionProvider")


def measuring(told: Mapping[str, Any]) -> list[Finding]:
    """ONNX Runtime and its providers, and which profiles of the catalog this machine can stand for.

    Args:
        told: of this machine, as `environment` gives it.
    """
    from hardware_profiles.catalog import known_profiles
    from hardware_profiles.measuring.requirements import unmet_requirement

    found = f"ONNX Runtime {told['onnxruntime']} with {', '.join(told['available_providers'])}"
    local = [profile for profile in known_profiles() if not profile.remote]
    reasons = {profile.name: unmet_requirement(profile, told) for profile in local}
    fit = [name for name, reason in reasons.items() if not reason]
    others = ", ".join(name for name in reasons if name not in fit)
    if not fit:
        return [
            ok("onnxruntime", found),
            wrong("profiles", "this machine can stand for none of the catalog", next(iter(reasons.values()))),
        ]
    beside = f" (not for {others})" if others else ""
    return [ok("onnxruntime", found), ok("profiles", f"this machine can stand for {', '.join(fit)}{beside}")]


def cpus(told: Mapping[str, Any]) -> list[Finding]:
    """The CPUs that this process may use, what limits them, and how busy they are."""
    allowed, quota, governor, load = (told[key] for key in ("allowed_cpus", "quota_cpus", "governor", "load_1m"))
    found = f"{allowed} of {told['cores']} CPUs ({told['cpu']})"
    findings = [ok("cpus", found)]
    if quota is not None and quota < allowed:
        remedy = "raise the limit of the container or unit: a process that is stopped in the middle of a run is timed wrongly"
        findings = [warning("cpus", f"{found}, of which control groups grant the time of {quota:g}", remedy)]
    if governor not in (None, "performance"):
        remedy = (
            "cpupower frequency-set -g performance: with the frequency, latencies change from one minute to the next"
        )
        findings.append(warning("frequency", f"governor {governor}", remedy))
    if load is not None and load >= allowed:
        remedy = "let other work end before latencies are measured; `uptime` shows the load"
        findings.append(warning("load", f"{load:.1f} processes want {allowed} CPUs", remedy))
    return findings


def threads(environ: Mapping[str, str], allowed: int) -> Finding:
    """How thread pools are told to wait and how many threads to start.

    Args:
        environ: environment variables.
        allowed: CPUs that this process may use.
    """
    policy = environ.get("OMP_WAIT_POLICY")
    found = f"OMP_WAIT_POLICY is {policy or 'not set'}"
    if (policy or "").lower() != "passive":
        remedy = (
            "export OMP_WAIT_POLICY=passive: threads that spin while they wait make busy cores several times slower"
        )
        return warning("threads", found, remedy)
    many = [name for name in _POOLS if environ.get(name, "").isdigit() and int(environ[name]) > allowed]
    if many:
        told = ", ".join(f"{name}={environ[name]}" for name in many)
        return warning("threads", f"{told} on {allowed} CPUs", f"unset {' '.join(many)}, or set at most {allowed}")
    return ok("threads", found)


def memory(meminfo: Path = Path("/proc/meminfo"), shared: Path = Path("/dev/shm")) -> list[Finding]:
    """Free memory, and the shared memory that Ray keeps its objects in."""
    findings = []
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free, whole = (int(lines[key].split()[0]) * 1024 for key in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError, IndexError) as error:
        return [warning("memory", f"{meminfo} does not tell it ({error!r})", "look at it with `free -h`")]
    found = f"{free / _GIB:.1f} of {whole / _GIB:.1f} GiB available"
    if free < FEW_MEMORY:
        findings.append(warning("memory", found, f"free some: a search takes about {FEW_MEMORY / _GIB:g} GiB with Ray"))
    else:
        findings.append(ok("memory", found))
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < FEW_SHARED:
        remedy = f"give a container more (--shm-size={FEW_SHARED // _GIB}g): Ray is slow where it has to use the disk instead"
        findings.append(warning("shared memory", f"{size / _GIB:.2f} GiB at {shared}", remedy))
    return findings


def disk(folder: Path) -> Finding:
    """Free space where runs are kept.

    Args:
        folder: the runs folder, which may not be there yet.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    found = f"{free / _GIB:.1f} GiB free at {there}"
    remedy = (
        "free some, or choose a runs folder on another disk with --runs: a full disk ends runs (they can be resumed)"
    )
    if free < NO_DISK:
        return wrong("disk", found, remedy)
    return warning("disk", found, remedy) if free < FEW_DISK else ok("disk", found)
