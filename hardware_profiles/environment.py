"""Compatibility of measurements, decided by the environments that they were taken in. Pure; no I/O."""

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
"""Keys that must agree, with their labels. Excluded: the host's name, which a container changes; kernel, Python and numpy,
which do not run while a model does; load and steal, which the noise floor covers. A missing key is None: records without a
device were measured on the CPU."""
_ONLY_WHERE_KNOWN: Mapping[str, str] = {"runtime": "runtime"}
"""Further ones, which records of ONNX Runtime lack: they count where an environment has them."""


def machine_key(environment: Mapping[str, Any]) -> str:
    """Hexadecimal digest (16 digits), equal for environments whose measurements are comparable."""
    return hashlib.sha256(json.dumps(_decisive(environment), sort_keys=True).encode()).hexdigest()[:16]


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The reasons why measurements of two environments are not comparable, as ``cpu: was X, is Y``.

    Empty exactly where the two `machine_key` are equal.
    """
    before, after = _decisive(was), _decisive(now)
    labels = {**DECISIVE, **_ONLY_WHERE_KNOWN}
    pairs = [(label, before.get(key), after.get(key)) for key, label in labels.items()]
    values = [(label, old, new) for label, old, new in pairs if old != new]
    changes = [f"{label}: was {_shown(old)}, is {_shown(new)}" for label, old, new in values]
    if before["flags"] != after["flags"] and (changed := _changed_isa(was, now)):
        changes.append(changed)
    return changes


def _decisive(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The decisive values. A worker's own description has no protocol: it will measure by the current one."""
    values = {key: environment.get(key, PROTOCOL if key == "protocol" else None) for key in DECISIVE}
    return values | {key: environment[key] for key in _ONLY_WHERE_KNOWN if environment.get(key) is not None}


def _changed_isa(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The instruction sets that were added or removed, which the digest of flags hides; empty if there are none."""
    before, after = set(was.get("isa", ())), set(now.get("isa", ()))
    parts = [f"without {', '.join(sorted(before - after))}"] if before - after else []
    parts += [f"with {', '.join(sorted(after - before))}"] if after - before else []
    return f"instruction sets: now {' and '.join(parts)}" if parts else ""


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)
