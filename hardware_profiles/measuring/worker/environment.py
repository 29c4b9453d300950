"""The description of this machine and process, which decides what can be measured and which measurements are comparable."""

from __future__ import annotations

import hashlib
import os
import platform
from typing import Any

import numpy as np

from .machine import changing_facts, cpu_name_and_flags, device, file_text, memory_mib
from .model_runs import RUNTIME, VERSION

_ADDR_NO_RANDOMIZE = 0x0040000
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


def environment_of(cpus: list[int], provider: str) -> dict[str, Any]:
    """A description of this machine and process, which decides what can be measured and which measurements are comparable.

    Args:
        cpus: The CPUs that runs are pinned to.
    """
    model, flags = cpu_name_and_flags()
    return {
        "cpu": model,
        "machine": platform.machine(),
        "flags": hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16],
        "isa": [flag for flag in flags if flag in _ISA or flag.startswith("avx512")],
        "cores": os.cpu_count(),
        "allowed_cpus": len(os.sched_getaffinity(0)),
        "pinned_cpus": cpus,
        "memory_mib": memory_mib(),
        "max_khz": int(file_text(f"/sys/devices/system/cpu/cpu{cpus[0]}/cpufreq/cpuinfo_max_freq") or 0) or None,
        **changing_facts(cpus),
        # Of this process's memory: without address randomisation, or with it.
        "layout": "fixed" if int(file_text("/proc/self/personality") or "0", 16) & _ADDR_NO_RANDOMIZE else "random",
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
