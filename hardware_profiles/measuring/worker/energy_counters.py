"""Counters of energy: those of power domains of the CPU, and that of an NVIDIA GPU."""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .machine import GPUS, file_text

_NVML = "libnvidia-ml.so.1"
_ON_CPU = ("DnnlExecutionProvider", "XnnpackExecutionProvider")
"""Providers that run on the CPU, beside those that say so."""
_MOST_WATTS, _LIMIT_EXCESS = 1000.0, 2.0
"""Most power of a domain that states no limit, and how far above its limit another may be for a moment."""
_UPDATES, _STILL_SECONDS = 17, 0.5
"""Changes of a counter that show how often it changes; one that does not change for this time stands still."""


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
        self.name = file_text(str(folder / "name"))
        self._file = folder / "energy_uj"
        self._range_uj = int(file_text(str(folder / "max_energy_range_uj")) or 0)
        limits = [int(file_text(str(file)) or 0) for file in folder.glob("constraint_*_power_limit_uw")]
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
    if provider in GPUS:
        counters: list[Any] = [GpuEnergy()]
    elif "cpu" in provider.lower() or provider in _ON_CPU:
        counters = list(_rapl_domains(cpus))
    else:
        raise NoEnergyError(f"no energy counter is known for {provider}, only for CPUs and NVIDIA GPUs")
    moving: list[tuple[Any, float, float]] = []
    for counter in counters:
        pace = _changes_of(counter)
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
        match = re.match(r"package-(\d+)", file_text(str(folder / "name")))
        if match:
            packages[folder] = match.group(1)
    if not packages:
        raise NoEnergyError(
            f"there are no energy counters in {_powercap()}: virtual machines and containers hide them, and most ARM boards "
            "have none; on another machine, load the kernel's module (sudo modprobe intel_rapl_msr)"
        )
    ids = {file_text(f"/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id") for cpu in cpus}
    pinned_packages = [folder for folder, package in packages.items() if package in ids]
    for package in pinned_packages or packages:
        yield RaplDomain(package)
        for folder in sorted(package.parent.glob(f"{package.name}:*")):
            if file_text(str(folder / "name")) == "dram":
                yield RaplDomain(folder)


def _changes_of(counter: Any) -> tuple[float, float] | None:
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
