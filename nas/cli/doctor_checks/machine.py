"""Checks of the machine: measuring, CPUs, threads, memory and disk."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hardware_profiles.catalog import environment_for, known_profiles
from hardware_profiles.environment import machine_key
from hardware_profiles.errors import ProfileError
from hardware_profiles.measuring.pace import is_quiet, usual_speed
from hardware_profiles.measuring.speed_record import SpeedRecord, default_folder
from hardware_profiles.measuring.worker.energy_counters import NoEnergyError, energy_counters
from hardware_profiles.measuring.worker.environment import environment_of
from hardware_profiles.requirements import check_requirements
from nas.cli.doctor_checks.finding import Finding, ok, warning, wrong

_GIB = 1024**3
FEW_DISK, NO_DISK = 5 * _GIB, _GIB // 2
"""A supernet's checkpoint with its optimiser and a run's exports need up to some GiB; a small run needs some ten MiB."""
FEW_MEMORY = 2 * _GIB
"""About the memory of a driver, two workers and Ray's own processes on the digits."""
FEW_SHARED = _GIB
"""Ray stores the supernet's weights and the images there once for all workers."""
_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment() -> dict[str, Any]:
    """The description of this machine that its measuring process would send; needs ONNX Runtime."""
    return environment_of(sorted(os.sched_getaffinity(0))[:1], "CPUExecutionProvider")


def measuring(environment: Mapping[str, Any]) -> list[Finding]:
    """ONNX Runtime with its providers, and the profiles of the catalog that this machine can measure."""
    runtime = f"ONNX Runtime {environment['onnxruntime']} with {', '.join(environment['available_providers'])}"
    findings = [ok("onnxruntime", runtime)]
    usable, reasons = [], {}
    for profile in known_profiles():
        if profile.remote:
            continue
        try:
            check_requirements(profile, environment_for(profile, environment))
            usable.append(profile.name)
        except ProfileError as error:
            reasons[profile.name] = str(error)
    if not usable:
        observation = "this machine can measure no profile of the catalog"
        return [*findings, wrong("profiles", observation, next(iter(reasons.values())))]
    unusable = f" (not {', '.join(reasons)})" if reasons else ""
    return [*findings, ok("profiles", f"this machine can measure {', '.join(usable)}{unusable}")]


def energy(environment: Mapping[str, Any]) -> Iterator[Finding]:
    """The counters of the energy of calls, on the CPU and on an NVIDIA GPU that the runtime can use; what would help.

    No finding is a problem: only jobs with ``energy_mj`` need it.
    """
    places = {"CPUExecutionProvider": "CPU", "CUDAExecutionProvider": "GPU"}
    for provider in (name for name in places if name in environment["available_providers"]):
        try:
            _, about = energy_counters(sorted(os.sched_getaffinity(0))[:1], provider)
        except NoEnergyError as error:
            yield ok("energy", f"energy_mj cannot be measured on the {places[provider]}: {error}")
        else:
            source = f"by {', '.join(about['counters'])}, which change every {about['update_ms']:.2g} ms"
            yield ok("energy", f"energy_mj can be measured on the {places[provider]}, {source}")


def cpus(environment: Mapping[str, Any]) -> list[Finding]:
    """The CPUs that this process may use, their limits, and their load."""
    allowed, quota, governor, load = (environment[key] for key in ("allowed_cpus", "quota_cpus", "governor", "load_1m"))
    observation = f"{allowed} of {environment['cores']} CPUs ({environment['cpu']})"
    findings = [ok("cpus", observation)]
    if quota is not None and quota < allowed:
        remedy = "raise the limit of the container or unit: it stops processes in the middle of timed runs"
        findings = [warning("cpus", f"{observation}, limited to {quota:g} by the cgroup quota", remedy)]
    if governor not in (None, "performance"):
        remedy = "cpupower frequency-set -g performance: latencies change with the frequency"
        findings.append(warning("frequency", f"governor {governor}", remedy))
    if load is not None and load >= allowed:
        remedy = f"stop other work (`uptime` shows the load), or expect wider errors of latencies; {_less_disturbed()}"
        findings.append(warning("load", f"load {load:.1f} on {allowed} CPUs", remedy))
    return findings


def _less_disturbed(isolated: Path = Path("/sys/devices/system/cpu/isolated")) -> str:
    """Measures by which this user can reduce the effect of other work; nothing of it is done unasked."""
    isolated_cpus = isolated.read_text().strip() if isolated.is_file() else ""
    core = (
        f"NAS_MEASURING_CPUS={isolated_cpus} measures on the isolated core"
        if isolated_cpus
        else "an isolated core (kernel option isolcpus)"
    )
    may = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] != 0
    right = "NAS_MEASURING_REALTIME=1 measures with real-time priority"
    if not may:
        right = "the right to real-time priority (rtprio in limits.conf, then NAS_MEASURING_REALTIME=1)"
    return f"what helps: {core}, or {right}"


def speed(environment: Mapping[str, Any]) -> Finding:
    """How well this machine's usual speed is known, at which latencies of one thread in ONNX Runtime are given."""
    sessions = SpeedRecord(default_folder(), machine_key).read(environment)
    usual, quiet = usual_speed(sessions), sum(map(is_quiet, sessions))
    remedy = "measure once while nothing else runs (`nas profile MODEL.onnx`): later latencies are given at that speed"
    if usual is None:
        return ok("speed", f"no latency was measured on this machine until now; at best, {remedy}")
    if not quiet:
        observation = (
            f"measuring sessions until now: {len(sessions)}, all beside other work, so that latencies have wide errors"
        )
        return warning("speed", observation, remedy)
    return ok("speed", f"usual speed known to {100 * usual.error:.1f} % (quiet measuring sessions: {quiet})")


def threads(environ: Mapping[str, str], allowed: int) -> Finding:
    """How thread pools wait, and how many threads they start, compared with the CPUs that this process may use."""
    policy = environ.get("OMP_WAIT_POLICY")
    observation = f"OMP_WAIT_POLICY is {policy or 'not set'}"
    if (policy or "").lower() != "passive":
        remedy = (
            "export OMP_WAIT_POLICY=passive: threads that spin while they wait make busy cores several times slower"
        )
        return warning("threads", observation, remedy)
    oversized = [name for name in _POOLS if environ.get(name, "").isdigit() and int(environ[name]) > allowed]
    if oversized:
        pools = ", ".join(f"{name}={environ[name]}" for name in oversized)
        return warning(
            "threads", f"{pools} on {allowed} CPUs", f"unset {' '.join(oversized)}, or set at most {allowed}"
        )
    return ok("threads", observation)


def memory(meminfo: Path = Path("/proc/meminfo"), shared: Path = Path("/dev/shm")) -> list[Finding]:
    """Free memory, and the shared memory of Ray's object store."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free, total = (int(lines[key].split()[0]) * 1024 for key in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError, IndexError) as error:
        return [warning("memory", f"cannot be read from {meminfo}: {error!r}", "check it with `free -h`")]
    observation = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB available"
    remedy = f"free some: a search needs about {FEW_MEMORY / _GIB:g} GiB with Ray"
    findings = [warning("memory", observation, remedy) if free < FEW_MEMORY else ok("memory", observation)]
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < FEW_SHARED:
        remedy = (
            f"give the container more (--shm-size={FEW_SHARED // _GIB}g): otherwise Ray uses the disk, which is slow"
        )
        findings.append(warning("shared memory", f"{size / _GIB:.2f} GiB at {shared}", remedy))
    return findings


def disk(folder: Path) -> Finding:
    """Free space for runs; the folder may not exist yet."""
    existing_folder = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing_folder).free
    observation = f"{free / _GIB:.1f} GiB free at {existing_folder}"
    remedy = "free some, or choose a runs folder on another disk with --runs: a full disk stops runs"
    if free < NO_DISK:
        return wrong("disk", observation, remedy)
    return warning("disk", observation, remedy) if free < FEW_DISK else ok("disk", observation)
