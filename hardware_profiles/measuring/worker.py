"""The measuring process: pinned to CPUs and alone on its host, it times ONNX models by the commands of its driver.

It needs only Python >= 3.9 on Linux, numpy and one runtime: this one file, and that of the runtime's class, are sent to a board
and run there. All decisions are the driver's, which also sets the environment variables of thread pools and of the runtime. A
command is a line of JSON; after one with "payloads": [length, ...] follow as many byte strings of these lengths. Each is
answered by a line of JSON:

    {"do": "start", "threads", "provider", "trivial": a smallest model for the runtime, in hexadecimal digits,
     "energy": whether to find energy counters} -> {"event": "ready", "environment"} | {"event": "unsupported", "platform"}
                                                | {"event": "refused", "message"} | {"event": "no-energy", "message"}
    {"do": "acquire", "lock", "seconds"}     -> [{"event": "waiting", "holder", "lock"}]
                                                {"event": "acquired"} | {"event": "lock-timeout", "holder", "lock"}
                                                | {"event": "lock-unusable", "lock", "reason"}
    {"do": "load", "id", "names": [[name, ...], ...]}, payloads: the model, its inputs as .npz, call by call
                                             -> {"event": "loaded", "warm_ms", "session_ms", "peak_mib", "providers",
                                                 "scattered": share of a large model that is not in huge pages}
                                              | {"event": "failed", "message"}
    {"do": "round", "order": [[id, n], ...]} -> {"event": "round", "entries": {id: {"wall_ms", ...} | {"message"}}}
    {"do": "energy", "order": [[id, n] or ["", milliseconds of waiting], ...]}
                                             -> {"event": "energy", "entries": {id: {"uj", "s", ...} | {"message"}
                                                | {"unclear"}}} | {"event": "no-energy", "message"}
    {"do": "release"}                        -> {"event": "released", "environment"}

The user may set NAS_MEASURING_CPUS (``2,3``, as isolated cores) and NAS_MEASURING_REALTIME=1, which needs the right to it.
NAS_POWERCAP names another folder than /sys/class/powercap with energy counters. A run makes one call with each of the inputs,
and its times and its energy are the sums over them. The process ends at the end of its input.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import hashlib
import io
import itertools
import json
import os
import platform
import re
import resource
import select
import signal
import socket
import stat
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np


def _load_runtime() -> Any:
    """The runtime that MEASURED_RUNTIME names as ``FILE:CLASS``, or ONNX Runtime.

    See `hardware_profiles.runtimes.base.Runtime`. Its source is this module's RUNTIME_SOURCE where the driver sent it, else the
    file. It is not imported by a name, since its package need not be installed here.
    """
    target = os.environ.get("MEASURED_RUNTIME", "")
    if not target:
        target = f"{Path(__file__).parents[1] / 'runtimes' / 'onnx_runtime.py'}:OnnxRuntime"
    file, _, name = target.rpartition(":")
    module = types.ModuleType("measured_runtime")
    sys.modules[module.__name__] = module  # for its dataclasses
    source = globals().get("RUNTIME_SOURCE") or Path(file).read_text(encoding="utf-8")
    exec(compile(source, file, "exec"), vars(module))
    return getattr(module, name)()


RUNTIME = _load_runtime()
"""The runtime that loads and runs the models."""
VERSION = RUNTIME.version()
"""The version of the runtime, which is imported before any fork, so that the forks need not load it again."""
_REALTIME = os.environ.get("NAS_MEASURING_REALTIME", "") not in ("", "0")

_Calls = tuple[dict[str, Any], ...]
"""The inputs by name of each call of a run."""

_STABLE_RUNS, _STABLE_SHARE = 3, 0.02
"""Warm-up ends after this number of runs in a row that improve on the fastest by at most this share."""
_WARM_UP_SECONDS, _WARM_UP_RUNS = 0.25, 200
_LEAST_CREATIONS, _CREATIONS, _CREATION_MS = 3, 5, 50.0
"""A session is created at least and at most this number of times, until the creations take this time in all."""
_PARENT_SECONDS = 0.5
_NVML = "libnvidia-ml.so.1"
_ON_CPU = ("DnnlExecutionProvider", "XnnpackExecutionProvider")
"""Providers that run on the CPU, beside those that say so."""
_GPUS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
_MOST_WATTS, _LIMIT_EXCESS = 1000.0, 2.0
"""Most power of a domain that states no limit, and how far above its limit another may be for a moment."""
_UPDATES, _STILL_SECONDS = 17, 0.5
"""Changes of a counter that show how often it changes; one that does not change for this time stands still."""
_PR_SET_PDEATHSIG, _ADDR_NO_RANDOMIZE = 1, 0x0040000
_ISA = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "neon",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "rvv",
)
"""CPU flags that select the runtime's kernels; all that begin with avx512 do, too."""


def _watch_parent(parent: int) -> None:
    """Ends this process when its parent ends: an orphan would disturb the next measurement."""
    # Without events, poll reports only a hang-up. Forks of the parent may keep the pipe open, hence the check of its id.
    poller = select.poll()
    poller.register(0, 0)
    while os.getppid() == parent and not poller.poll(_PARENT_SECONDS * 1000):
        pass
    os._exit(0)


def _choose_cpus(n: int) -> list[int]:
    """`n` of the allowed CPUs, on different cores where possible, the last ones first (CPU 0 serves interrupts)."""
    allowed, siblings = os.sched_getaffinity(0), "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    one_per_core = {_read(siblings.format(cpu)) or str(cpu): cpu for cpu in sorted(allowed)}.values()
    return sorted(allowed, key=lambda cpu: (cpu not in one_per_core, -cpu))[:n]


def _asked_cpus(n: int) -> list[int]:
    """The first `n` CPUs that the user asks for by NAS_MEASURING_CPUS; empty without a wish.

    Raises:
        ValueError: they are too few, or none is meant.
    """
    text = os.environ.get("NAS_MEASURING_CPUS", "")
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if text and (len(parts) < n or not all(part.isdigit() for part in parts)):
        raise ValueError(f"NAS_MEASURING_CPUS is {text!r}; expected the numbers of {n} CPUs or more, as 2,3")
    return [int(part) for part in parts[:n]]


def _prefer(on: bool) -> None:
    """Gives this thread, and those that it starts, real-time priority or takes it away, if NAS_MEASURING_REALTIME asks for it.

    Raises:
        PermissionError: this user has no right to it.
    """
    if not _REALTIME:
        return
    try:
        os.sched_setscheduler(0, os.SCHED_RR if on else os.SCHED_OTHER, os.sched_param(int(on)))
    except PermissionError:
        message = "NAS_MEASURING_REALTIME is set, and this user may not use real-time priority (`ulimit -r` is 0)"
        raise PermissionError(f"{message}; unset it, or ask for the right (rtprio in limits.conf)") from None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):  # some kernels and boards lack some files
        return ""


def _fields(path: str) -> dict[str, list[str]]:
    """The values of a file's lines ``key: value``, by key."""
    fields: dict[str, list[str]] = {}
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), []).append(value.strip())
    return fields


def _cpu() -> tuple[str, list[str]]:
    """The processor's name (on ARM, the board's name and its part numbers), and its flags, sorted."""
    lines = _fields("/proc/cpuinfo")
    names = [lines[key][0] for key in ("model name", "Model", "Hardware", "uarch") if key in lines][:1]
    parts = sorted({f"part {part}" for part in lines.get("CPU part", [])})
    flags = (lines.get("flags") or lines.get("Features") or lines.get("isa") or [""])[0].split()
    return " ".join(names + parts) or platform.processor() or platform.machine(), sorted(set(flags))


def device(provider: str, root: str = "/proc/driver/nvidia") -> str | None:
    """The model and driver of a GPU provider's GPU, as the system reports them; None for other providers.

    With GPUs of several models, all of them, and the ones that the process may use.
    """
    if provider not in _GPUS:
        return None
    names_by_gpu = [_fields(str(file)).get("Model", []) for file in Path(root, "gpus").glob("*/information")]
    models = sorted({model for names in names_by_gpu for model in names})
    if len(models) > 1:
        models.append(f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
    version = next((word for word in _read(f"{root}/version").split() if word[0].isdigit() and "." in word), "unknown")
    return ", ".join([*(models or ["unknown GPU"]), f"driver {version}"])


class NoEnergyError(Exception):
    """Energy cannot be measured; the message has the reason and a remedy."""


def _powercap() -> str:
    return os.environ.get("NAS_POWERCAP") or "/sys/class/powercap"


class RaplDomain:
    """A power domain of the CPU, with a counter of its energy in microjoules that begins again after its range.

    Attributes:
        span_s: the time within which it cannot begin again twice; reads must be nearer to each other.
    """

    def __init__(self, folder: Path) -> None:
        self.name = _read(str(folder / "name"))
        self._file = folder / "energy_uj"
        self._range_uj = int(_read(str(folder / "max_energy_range_uj")) or 0)
        limits = [int(_read(str(file)) or 0) for file in folder.glob("constraint_*_power_limit_uw")]
        watts = _LIMIT_EXCESS * max(limits, default=0) / 1e6 or _MOST_WATTS
        self.span_s = self._range_uj / 1e6 / watts if self._range_uj else float("inf")
        self.restart()

    def restart(self) -> None:
        """Begins to count at the present value."""
        self._last_uj, self._total_uj, self._at = self._raw_uj(), 0, time.monotonic()

    def read(self) -> float:
        """Microjoules since `restart`.

        Raises:
            NoEnergyError: the counter cannot be read.
            OverflowError: the last read is so long ago that the counter may have begun again more than once.
        """
        raw_uj, now = self._raw_uj(), time.monotonic()
        added_uj, unread_s = raw_uj - self._last_uj, now - self._at
        self._last_uj, self._at = raw_uj, now
        if unread_s > self.span_s:
            raise OverflowError(
                f"the counter {self.name} was not read for {unread_s:.3g} s, and may begin again every {self.span_s:.3g} s"
            )
        self._total_uj += added_uj + (self._range_uj if added_uj < 0 else 0)
        return self._total_uj

    def _raw_uj(self) -> int:
        try:
            return int(self._file.read_bytes())
        except PermissionError:
            raise NoEnergyError(_forbidden(self._file)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise NoEnergyError(f"the energy counter {self._file} cannot be read: {reason}") from None


def _forbidden(file: Path) -> str:
    return (
        f"only root may read the energy counter {file}: since 2020 kernels forbid it to other users, who could observe each "
        f"other's work. On a machine of your own: sudo chmod a+r {_powercap()}/intel-rapl:*/energy_uj, or permanently a file "
        '/etc/udev/rules.d/70-energy.rules with SUBSYSTEM=="powercap", ACTION=="add", KERNEL=="intel-rapl:*", '
        'RUN+="/bin/chmod a+r %S%p/energy_uj"'
    )


class GpuEnergy:
    """The energy counter of an NVIDIA GPU (Volta and later), of which NVML gives millijoules."""

    span_s = float("inf")

    def __init__(self, library: str = _NVML) -> None:
        try:
            self._nvml = ctypes.CDLL(library)
            self._call("nvmlInit_v2")
        except OSError as error:
            message = (
                f"NVML cannot be loaded ({error}); it is part of the NVIDIA driver, and containers need `--gpus all`"
            )
            raise NoEnergyError(message) from None
        self._gpu = ctypes.c_void_p()
        wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        self.name = wanted if wanted.startswith(("GPU-", "MIG-")) else f"gpu {int(wanted) if wanted.isdigit() else 0}"
        if self.name == wanted:
            self._call("nvmlDeviceGetHandleByUUID", wanted.encode(), ctypes.byref(self._gpu))
        else:
            self._call("nvmlDeviceGetHandleByIndex_v2", int(self.name[4:]), ctypes.byref(self._gpu))
        self.restart()

    def restart(self) -> None:
        """Begins to count at the present value."""
        self._first_uj = self._raw_uj()

    def read(self) -> float:
        """Microjoules since `restart`; raises `NoEnergyError`."""
        return self._raw_uj() - self._first_uj

    def _raw_uj(self) -> int:
        millijoules = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._gpu, ctypes.byref(millijoules))
        return 1000 * millijoules.value

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            code = getattr(self._nvml, name)(*arguments)
        except AttributeError:
            raise NoEnergyError(f"this NVIDIA driver has no {name}; install a newer one") from None
        if code:
            self._nvml.nvmlErrorString.restype = ctypes.c_char_p
            reason = (self._nvml.nvmlErrorString(code) or b"").decode("utf-8", "replace")
            raise NoEnergyError(f"NVML's {name} fails: {reason} ({code}); GPUs before Volta have no energy counter")


def energy_counters(cpus: list[int], provider: str) -> tuple[list[Any], dict[str, Any]]:
    """The counters of what runs models, and a description: their names, the milliseconds between changes, and their step.

    Of the CPU, the packages with these CPUs and, where it has a counter of its own, their memory.

    Raises:
        NoEnergyError: there is none, one may not be read, or one stands still.
    """
    if provider in _GPUS:
        counters: list[Any] = [GpuEnergy()]
    elif "cpu" in provider.lower() or provider in _ON_CPU:
        counters = list(_rapl_domains(cpus))
    else:
        raise NoEnergyError(f"no energy counter is known for {provider}, only for CPUs and NVIDIA GPUs")
    moving: list[tuple[Any, float, float]] = []
    for counter in counters:
        pace = _pace(counter)
        if pace is not None:
            moving.append((counter, *pace))
        elif counter.name != "dram":  # that stands still on some processors whose package includes it
            raise NoEnergyError(
                f"the energy counter {counter.name} stands still; a virtual machine may show one that it does not count"
            )
    about = {
        "counters": [counter.name for counter, _, _ in moving],
        "update_ms": max(update_ms for _, update_ms, _ in moving),
        "step_uj": sum(step_uj for _, _, step_uj in moving),
    }
    return [counter for counter, _, _ in moving], about


def _rapl_domains(cpus: list[int]) -> Iterator[RaplDomain]:
    packages = {}
    for folder in sorted(Path(_powercap()).glob("intel-rapl:*")):  # AMD's CPUs, too
        match = re.match(r"package-(\d+)", _read(str(folder / "name")))
        if match:
            packages[folder] = match.group(1)
    if not packages:
        raise NoEnergyError(
            f"there are no energy counters in {_powercap()}: virtual machines and containers hide them, and most ARM boards "
            "have none; on another machine, load the kernel's module (sudo modprobe intel_rapl_msr)"
        )
    ids = {_read(f"/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id") for cpu in cpus}
    pinned_packages = [folder for folder, package in packages.items() if package in ids]
    for package in pinned_packages or packages:
        yield RaplDomain(package)
        for folder in sorted(package.parent.glob(f"{package.name}:*")):
            if _read(str(folder / "name")) == "dram":
                yield RaplDomain(folder)


def _pace(counter: Any) -> tuple[float, float] | None:
    """Milliseconds between changes of a counter, and microjoules of a change; None if it stands still.

    The lower quartile of those seen: while this process has no CPU, changes are missed.

    Raises:
        NoEnergyError: it cannot be read often enough.
    """
    counter.restart()
    changes: list[tuple[float, float]] = []
    started, last_uj, seldom = time.perf_counter(), 0.0, ""
    while len(changes) < _UPDATES and time.perf_counter() - started < _STILL_SECONDS:
        try:
            uj = counter.read()
        except OverflowError as error:
            seldom = str(error)
            continue
        if uj != last_uj:
            changes.append((time.perf_counter(), uj))
            last_uj = uj
    if seldom and not changes:
        raise NoEnergyError(seldom)
    gaps = [(changes[i][0] - changes[i - 1][0], changes[i][1] - changes[i - 1][1]) for i in range(1, len(changes))]
    if not gaps:
        return None
    ms, uj = (sorted(gap[k] for gap in gaps)[len(gaps) // 4] for k in (0, 1))
    return ms * 1e3, uj


def cpu_quota(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> float | None:
    """The CPU quota of this process's control groups, the least of all levels; None without a limit."""
    limits = []
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder, group = Path(root, "cpu" if controllers else ""), Path(path.lstrip("/"))
        for level in (group, *group.parents):  # a container may see its own group as the root
            if controllers:
                quota, period = (_read(str(folder / level / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
            else:
                quota, _, period = _read(str(folder / level / "cpu.max")).partition(" ")
            if quota.isdigit() and period.isdigit() and int(period) > 0:  # without a limit: "max" or -1
                limits.append(int(quota) / int(period))
    return min(limits) if limits else None


def memory_mib(meminfo: str = "/proc/meminfo", limit: str = "/sys/fs/cgroup/memory.max") -> int | None:
    """The memory of this machine, or what its control group may use of it; None where the system does not report it."""
    total = _fields(meminfo).get("MemTotal", [""])[0].split()
    limits_mib = [int(total[0]) // 1024] if total and total[0].isdigit() else []
    text = _read(limit)
    return min([*limits_mib, int(text) // 2**20] if text.isdigit() else limits_mib, default=None)


LARGE_BYTES = 32 * 1024 * 1024
"""Size of a model from which its weights are put into huge pages."""
_HUGE, _MADV_COLLAPSE = 2 * 1024 * 1024, 25


def gather_memory() -> None:
    """Puts this process's memory into huge pages where the system can (Linux 6.1 or newer).

    Pages of 4 KiB are scattered over the machine's memory, and differently in each session: a model of 340 MB took 28 to 59 ms
    in five sessions of one process, and 23.6 to 24.3 ms in huge pages.
    """
    advise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions, _, _, inode = line.split()[:5]
        start, end = (int(address, 16) for address in span.split("-"))
        start, end = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if permissions == "rw-p" and inode == "0" and start < end:
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE)


def in_small_pages(rollup: str = "/proc/self/smaps_rollup") -> int | None:
    """Bytes of this process's own memory that are not in huge pages; None where Linux is too old (before 4.14) to tell."""
    if not os.path.exists(rollup):
        return None
    sizes = dict(line.split(":", 1) for line in _read(rollup).splitlines() if line.endswith(" kB"))
    anonymous, huge = (int(sizes[name].split()[0]) for name in ("Anonymous", "AnonHugePages"))
    return (anonymous - huge) * 1024


def _share_scattered(small_before: int | None, size: int) -> float:
    """The share of a model of this size, loaded since, that is not in huge pages; 1 where it cannot be told."""
    small = in_small_pages()
    return 1.0 if small is None or small_before is None else min(max(0.0, (small - small_before) / size), 1.0)


def _ticks(cpus: list[int] | None) -> list[list[int]]:
    """The counts of these CPUs in /proc/stat, or of all together: user, nice, system, idle, I/O wait, two kinds of interrupts,
    steal; what follows is included in these. Empty where there is none."""
    labels = {"cpu"} if cpus is None else {f"cpu{cpu}" for cpu in cpus}
    lines = (line.split() for line in _read("/proc/stat").splitlines() if line.startswith("cpu"))
    return [[int(value) for value in values[:8]] for name, *values in lines if name in labels]


def _cpu_times(cpus: list[int]) -> tuple[int, int]:
    """Ticks of these CPUs that the hypervisor gave to others, and all ticks."""
    ticks = _ticks(cpus)
    return sum(counts[7] for counts in ticks if len(counts) > 7), sum(map(sum, ticks))


def _busy_s(cpus: list[int] | None) -> float:
    """Seconds, to a hundredth, for which any process or interrupt used these CPUs; None: all."""
    return sum(counts[i] for counts in _ticks(cpus) for i in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")


def _suspended_s() -> float:
    """Seconds for which this machine has been suspended since it started; the clocks of runs stand still meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _changing(cpus: list[int]) -> dict[str, Any]:
    """The part of the environment that may change while this process lives, and affects the CPUs' speed."""
    governor = _read(f"/sys/devices/system/cpu/cpu{cpus[0]}/cpufreq/scaling_governor")
    load = _read("/proc/loadavg").split()
    return {"quota_cpus": cpu_quota(), "governor": governor or None, "load_1m": float(load[0]) if load else None}


def environment_of(cpus: list[int], provider: str) -> dict[str, Any]:
    """A description of this machine and process, which decides what can be measured and which measurements are comparable.

    Args:
        cpus: The CPUs that runs are pinned to.
    """
    model, flags = _cpu()
    return {
        "cpu": model,
        "machine": platform.machine(),
        "flags": hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16],
        "isa": [flag for flag in flags if flag in _ISA or flag.startswith("avx512")],
        "cores": os.cpu_count(),
        "allowed_cpus": len(os.sched_getaffinity(0)),
        "pinned_cpus": cpus,
        "memory_mib": memory_mib(),
        "max_khz": int(_read(f"/sys/devices/system/cpu/cpu{cpus[0]}/cpufreq/cpuinfo_max_freq") or 0) or None,
        **_changing(cpus),
        # Of this process's memory: without address randomisation, or with it.
        "layout": "fixed" if int(_read("/proc/self/personality") or "0", 16) & _ADDR_NO_RANDOMIZE else "random",
        "host": platform.node(),
        "platform": platform.platform(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **_runtime(),
        "provider": provider,
        "device": device(provider),
        "threads": len(cpus),
    }


def _runtime() -> dict[str, Any]:
    """The runtime's version by its package, and the devices that it can use."""
    runtime_label = {} if RUNTIME.package == "onnxruntime" else {"runtime": f"{RUNTIME.label} {VERSION}"}
    return {RUNTIME.package: VERSION, **runtime_label, "available_providers": RUNTIME.devices()}


class Worker:
    """Executes the commands, and holds the loaded models."""

    def __init__(self, out: TextIO, fork_server: ForkServer | None) -> None:
        self._out, self._fork_server = out, fork_server
        self._cpus: list[int] = []
        self._provider, self._trivial = "", b""
        self._lock: int | None = None
        self._ticks, self._asleep_s = (0, 0), 0.0
        self._rounds_s = self._others_s = 0.0
        self._loaded: dict[str, tuple[Any, _Calls]] = {}
        self._counters: list[Any] = []

    def _answer(self, event: str, **values: Any) -> None:
        self._out.write(json.dumps({"event": event, **values}) + "\n")
        self._out.flush()

    def start(self, threads: int, provider: str, trivial: str, energy: bool = False) -> None:
        """Pins this thread to the first of its CPUs; the runtime pins its own threads to the others."""
        if self._fork_server is None:
            self._answer("unsupported", platform=sys.platform)
            return
        try:
            self._cpus, self._provider = _asked_cpus(threads) or _choose_cpus(threads), provider
            self._trivial = bytes.fromhex(trivial)
            environment = environment_of(self._cpus, provider)
            os.sched_setaffinity(0, self._cpus[:1])
            _prefer(True)
            _prefer(False)
            if energy:
                self._counters, environment["energy"] = energy_counters(self._cpus, provider)
        except NoEnergyError as error:
            self._answer("no-energy", message=str(error))
            return
        except (OSError, ValueError) as error:
            self._answer("refused", message=str(error))
            return
        self._answer("ready", environment=environment)

    def acquire(self, lock: str, seconds: float) -> None:
        """Takes the host's lock, by its name or the path of its file. The system releases it when this process ends."""
        path = lock if os.sep in lock else lock_path(lock)
        try:
            file = open_lock(path)
        except OSError as error:
            self._answer("lock-unusable", lock=path, reason=error.strerror)
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(file, 20, 0)
            holder = pid.decode() if pid.isdigit() else ""  # any user may have written any text
            self._answer("waiting", holder=holder, lock=path)
            if not _wait_for(file, seconds):
                os.close(file)
                self._answer("lock-timeout", holder=holder, lock=path)
                return
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._lock, self._ticks, self._asleep_s = file, _cpu_times(self._cpus), _suspended_s()
        self._rounds_s = self._others_s = 0.0
        _prefer(True)
        self._answer("acquired")

    def load(self, id: str, names: list[list[str]], payloads: list[bytes]) -> None:
        """Creates a session and warms it up until it is stable, after another process has measured creation and memory."""
        assert self._fork_server is not None  # "start" rejects a machine without
        try:
            alone = self._fork_server.measure(self._cpus, self._provider, names, [*payloads, self._trivial])
            model, inputs = payloads
            calls = _read_calls(inputs, names)
            large = len(model) >= LARGE_BYTES
            small_before = in_small_pages() if large else None
            session, session_ms = _create_session(model, self._cpus, self._provider, calls)
            if large:
                gather_memory()
            scattered = _share_scattered(small_before, len(model)) if large else 0.0
            warm_ms = _warm_up(session, calls)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            self._answer("failed", message=_message(error))
            return
        self._loaded[id] = session, calls
        costs = {"warm_ms": warm_ms, "session_ms": [*alone["session_ms"], session_ms], "peak_mib": alone["peak_mib"]}
        self._answer("loaded", **costs, providers=list(session.devices), scattered=scattered)

    def round(self, order: list[tuple[str, int]]) -> None:
        """Runs the entries in order, each its number of times in a row."""
        entries = {}
        busy_start_s, cpu_start_s, start_s = _busy_s(None), time.process_time(), time.perf_counter()
        gc.disable()  # a collection inside a run would be timed with it
        for id, n_runs in order:
            session, calls = self._loaded[id]
            try:
                wall, cpu, switches = _time_runs(session, calls, n_runs)
                entries[id] = {"wall_ms": wall, "cpu_ms": cpu, "switches": switches}
            except Exception as error:  # as above
                entries[id] = {"message": _message(error)}
        gc.enable()
        self._rounds_s += time.perf_counter() - start_s
        self._others_s += _busy_s(None) - busy_start_s - (time.process_time() - cpu_start_s)
        self._answer("round", entries=entries)

    def energy(self, order: list[tuple[str, float]]) -> None:
        """Runs the entries in order, each its number of times in a row, or waits, and reads the energy of each."""
        entries = {}
        gc.disable()
        try:
            for id, n in order:
                entries[id] = self._energy_of(id, n)
        except NoEnergyError as error:
            self._answer("no-energy", message=str(error))
            return
        finally:
            gc.enable()
        self._answer("energy", entries=entries)

    def _energy_of(self, id: str, n: float) -> dict[str, Any]:
        """Microjoules, seconds, CPU seconds of this process, and of others on its CPUs; ``message`` of a model that fails,
        ``unclear`` of counters that were read too rarely."""
        pause_s = min(counter.span_s for counter in self._counters) / 2
        for counter in self._counters:
            counter.restart()
        busy_start, cpu_start, start = _busy_s(self._cpus), time.process_time(), time.perf_counter()
        try:
            steps = self._waits(n / 1e3, pause_s) if id == "" else self._runs(id, int(n))
            read_at = start + pause_s
            while True:
                try:
                    if next(steps, None) is None:
                        break
                except Exception as error:  # of the runtime, as above
                    return {"message": _message(error)}
                if time.perf_counter() >= read_at:
                    for counter in self._counters:
                        counter.read()
                    read_at = time.perf_counter() + pause_s
            uj = sum(counter.read() for counter in self._counters)
        except OverflowError as error:
            return {"unclear": str(error)}
        end_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        others_s = max(0.0, _busy_s(self._cpus) - busy_start - cpu_s)
        return {"uj": uj, "s": end_s, "cpu_s": cpu_s, "others_s": others_s}

    def _runs(self, id: str, n: int) -> Iterator[bool]:
        session, calls = self._loaded[id]
        for _ in range(n):
            for feeds in calls:
                session.run(feeds)
            yield True

    @staticmethod
    def _waits(seconds: float, pause_s: float) -> Iterator[bool]:
        end = time.perf_counter() + seconds
        while (remaining_s := end - time.perf_counter()) > 0:
            time.sleep(min(remaining_s, pause_s))
            yield True

    def release(self) -> None:
        """Drops the loaded models, releases the host's lock, and reports what may have changed since it was taken."""
        self._loaded.clear()
        _prefer(False)
        stolen, total = (now - was for was, now in zip(self._ticks, _cpu_times(self._cpus)))  # noqa: B905 - Python 3.9
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        asleep_s = max(0.0, _suspended_s() - self._asleep_s)
        changes = {
            "steal": stolen / total if total > 0 else 0.0,
            "busy": self._busy(),
            "suspended_s": round(asleep_s, 1),
            "realtime": _REALTIME,
        }
        self._answer("released", environment={**changes, **_changing(self._cpus)})

    def _busy(self) -> float | None:
        """Share of the time of all CPUs that other processes took during the rounds; None if there were none, or /proc/stat."""
        if not self._rounds_s or not _busy_s(None):
            return None
        return min(max(0.0, self._others_s / (self._rounds_s * (os.cpu_count() or 1))), 1.0)


class ForkServer:
    """A process that forks others: each creates one session in fresh memory, and measures its cost.

    It is forked before this process has any session, pool or thread that a fork would lose.
    """

    def __init__(self) -> None:
        self._control, server_end = socket.socketpair()
        worker_pid, self.pid = os.getpid(), os.fork()
        if self.pid == 0:
            _die_with(worker_pid)
            self._control.close()
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 0)  # so that the driver sees the worker end
            os.dup2(nowhere, 1)
            try:
                _serve(server_end)
            finally:
                os._exit(0)
        server_end.close()

    def measure(self, cpus: list[int], provider: str, names: list[list[str]], payloads: list[bytes]) -> dict[str, Any]:
        """``session_ms``, the milliseconds of each session creation, and ``peak_mib``, the peak memory of one and its run.

        Raises:
            RuntimeError: the model does not load or run (the runtime's message), or its process died.
        """
        connection, fork_end = socket.socketpair()
        with connection:
            with fork_end:
                socket.send_fds(self._control, [b"x"], [fork_end.fileno()])
            request = {"cpus": cpus, "provider": provider, "names": names, "payloads": [len(p) for p in payloads]}
            # Where the process has died, the answer is missing below.
            with contextlib.suppress(BrokenPipeError), connection.makefile("wb") as out:
                out.write(json.dumps(request).encode() + b"\n")
                out.writelines(payloads)
            answer: dict[str, Any] = {}
            with contextlib.suppress(ConnectionError), connection.makefile("rb") as answers:
                answer = json.loads(answers.readline() or b"{}")
        if "peak_mib" not in answer:
            raise RuntimeError(answer.get("message") or "the process that loaded and ran this model died")
        return answer


def _serve(control: socket.socket) -> None:
    """The fork_server's loop: forks for each socket that it receives, until the worker has ended."""
    server_pid = os.getpid()
    while True:
        _, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not handles:
            return
        child = os.fork()
        if child == 0:
            _die_with(server_pid)
            try:
                with socket.socket(fileno=handles[0]) as connection:
                    _measure_alone(connection)
            finally:
                os._exit(0)
        os.close(handles[0])
        os.waitpid(child, 0)


def _measure_alone(connection: socket.socket) -> None:
    """The fork's work: reads one model, creates its session, runs it, and answers with the cost."""
    with connection.makefile("rb") as file, connection.makefile("w", encoding="utf-8") as out:
        request = next(_commands(file))
        model, inputs, smallest = request["payloads"]
        os.sched_setaffinity(0, request["cpus"][:1])
        try:
            calls = _read_calls(inputs, request["names"])
            # The runtime's code and the setup of its first session, some 16 MiB, are not the model's.
            example = {"x": np.zeros(1, np.float32)}
            trivial, _ = _create_session(smallest, request["cpus"], request["provider"], (example,), exclusive=False)
            trivial.run(example)
            with contextlib.suppress(OSError):  # if the kernel cannot reset the peak, the previous one counts
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            session, session_ms = _create_session(model, request["cpus"], request["provider"], calls)
            _time_runs(session, calls, 1)
            added_kib = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib)
            creations_ms = [session_ms]
            while len(creations_ms) < _LEAST_CREATIONS or (
                len(creations_ms) < _CREATIONS and sum(creations_ms) < _CREATION_MS
            ):
                creations_ms.append(_create_session(model, request["cpus"], request["provider"], calls)[1])
            answer: dict[str, Any] = {"session_ms": creations_ms, "peak_mib": added_kib / 1024}
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            answer = {"message": _message(error)}
        out.write(json.dumps(answer) + "\n")


def _die_with(parent: int) -> None:
    """Makes the system kill this process when its parent dies, even during an endless run."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died already
        os._exit(0)


def _read_calls(inputs: bytes, names: list[list[str]]) -> _Calls:
    numbers = itertools.count()  # the arrays are stored call by call
    with np.load(io.BytesIO(inputs), allow_pickle=False) as arrays:
        return tuple({name: arrays[f"arr_{next(numbers)}"] for name in call} for call in names)


def _create_session(
    model: bytes, cpus: list[int], provider: str, calls: _Calls, *, exclusive: bool = True
) -> tuple[Any, float]:
    """The model loaded by the runtime, and the milliseconds that this took.

    Args:
        calls: The calls that the model will be run with.
        exclusive: True if the provider must run every operation.
    """
    start = time.perf_counter()
    session = RUNTIME.load(model, device=provider, cpus=cpus, inputs=calls, whole=exclusive)
    return session, (time.perf_counter() - start) * 1e3


def lock_path(name: str, folders: tuple[str, ...] = ("/run/lock", "/dev/shm", "/tmp")) -> str:
    """The path of a lock file in the first of the folders that all users may write to, root included."""
    open_to_all = (
        f for f in folders if os.path.isdir(f) and os.stat(f).st_mode & stat.S_IWOTH and os.access(f, os.W_OK)
    )
    return os.path.join(next(open_to_all, folders[-1]), f"{name}.lock")


def open_lock(path: str) -> int:
    """The descriptor of a file that all users may lock, created if it is missing; links are not followed.

    O_CREAT is not used on an existing file: the kernel rejects it for another user's (fs.protected_regular).
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    if not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):  # another process was faster
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(file, 0o666)  # regardless of the user's umask
            return file
    return os.open(path, flags)


def _wait_for(file: int, seconds: float) -> bool:
    """Returns True if the lock was free in time. It blocks: polling would lose the lock to a driver of many batches."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # it raises KeyboardInterrupt; Ctrl-C is ignored here
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        return True
    except KeyboardInterrupt:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _warm_up(session: Any, calls: _Calls) -> float:
    """The fastest of the runs, in milliseconds."""
    best, calm, started = float("inf"), 0, time.perf_counter()
    for _ in range(_WARM_UP_RUNS):
        wall_ms = _time_runs(session, calls, 1)[0][0]
        calm = calm + 1 if wall_ms > best * (1 - _STABLE_SHARE) else 0
        best = min(best, wall_ms)
        if calm >= _STABLE_RUNS or time.perf_counter() - started > _WARM_UP_SECONDS:
            break
    return best


def _time_runs(session: Any, calls: _Calls, n: int) -> tuple[list[float], list[float], list[int]]:
    """Wall and thread CPU milliseconds and involuntary context switches of the process, for each run of all calls.

    Raises:
        Exception: of the runtime; with several inputs, a RuntimeError with the number of the one that failed.
    """
    wall, cpu, switches = [], [], []
    run, perf_counter, thread_time = session.run, time.perf_counter, time.thread_time
    feeds = calls[0]
    try:
        for _ in range(n):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            cpu_start, start = thread_time(), perf_counter()
            for feeds in calls:  # no counter: it would be timed, too
                run(feeds)
            end, cpu_end = perf_counter(), thread_time()
            wall.append((end - start) * 1e3)
            cpu.append((cpu_end - cpu_start) * 1e3)
            switches.append(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before)
    except Exception as error:
        if len(calls) == 1:
            raise
        i = [call is feeds for call in calls].index(True)
        raise RuntimeError(f"input {i + 1} of {len(calls)}: {_message(error)}") from error
    return wall, cpu, switches


def _message(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."


def _commands(file: BinaryIO | io.BufferedReader) -> Iterator[dict[str, Any]]:
    """The commands of the input, with the bytes of their payloads in place of the lengths."""
    for line in iter(file.readline, b""):
        command = json.loads(line)
        if "payloads" in command:
            command["payloads"] = [file.read(length) for length in command["payloads"]]
        yield command


def main() -> None:
    """Answers commands until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the driver handles it
    fork_server = ForkServer() if sys.platform == "linux" else None  # before the first thread starts
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the output of libraries must not mix with the answers
    worker = Worker(out, fork_server)
    handlers = (worker.start, worker.acquire, worker.load, worker.round, worker.energy, worker.release)
    commands: dict[str, Callable[..., None]] = {command.__name__: command for command in handlers}
    for command in _commands(sys.stdin.buffer):
        commands[command.pop("do")](**command)


if __name__ == "__main__":
    main()
