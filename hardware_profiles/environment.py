"""Which measurements may be put together, by the environments that they were taken in. Pure; no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hardware_profiles.measuring.protocol import PROTOCOL

DECISIVE: Mapping[str, str] = {
    "cpu": "cpu",
    "machine": "architecture",
    "flags": "cpu flags",
    "max_khz": "top frequency of the pinned CPU (kHz)",
    "governor": "frequency governor",
    "quota_cpus": "cgroup quota (CPUs)",
    "onnxruntime": "ONNX Runtime",
    "provider": "execution provider",
    "device": "device",
    "threads": "threads",
    "protocol": "measuring protocol",
}
"""What must agree, and how it is called. Not the host's name, which a container changes, nor the kernel, Python and numpy,
which are not at work while a model runs; nor load and steal, which are what the noise floor is for. A key that is absent, as
in records from before there was one, is None: no device but the CPU."""


def machine_key(environment: Mapping[str, Any]) -> str:
    """Hexadecimal digest (16 digits), equal for environments whose figures may be put together."""
    told = json.dumps(_decisive(environment), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What keeps figures of two environments apart, as ``cpu: was X, is Y``; empty if nothing does.

    Environments differ in this exactly where their `machine_key` does.
    """
    before, after = _decisive(was), _decisive(now)
    told = [
        f"{words}: was {_shown(before[key])}, is {_shown(after[key])}"
        for key, words in DECISIVE.items()
        if before[key] != after[key]
    ]
    if before["flags"] != after["flags"] and (changed := _changed_isa(was, now)):
        told.append(changed)
    return told


def _decisive(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that decide. A worker knows no protocol: what it says of itself will be measured by this one."""
    return {key: environment.get(key, PROTOCOL if key == "protocol" else None) for key in DECISIVE}


def _changed_isa(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words what a digest of flags does not say; empty where no instruction set came or went."""
    before, after = set(was.get("isa", ())), set(now.get("isa", ()))
    parts = [f"without {', '.join(sorted(before - after))}"] if before - after else []
    parts += [f"with {', '.join(sorted(after - before))}"] if after - before else []
    return f"instruction sets: now {' and '.join(parts)}" if parts else ""


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)
