"""Hardware profiles by name, from the catalog that is shipped or from a user's YAML file."""

from __future__ import annotations

import math
import os
import re
from dataclasses import fields
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ProfileError

MAX_THREADS = 1024
MAX_BATCH = 65_536

_KEYS = tuple(field.name for field in fields(HardwareProfile))
_WHOLE = {"threads": MAX_THREADS, "batch_size": MAX_BATCH}
_ELSEWHERE = {
    "precision": "precision is the job's, not the machine's: write `precisions: [fp32, int8]` in the job file",
}
"""What people write here that stands elsewhere."""
# A name stands in objectives (latency_ms@NAME), file names and URLs.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
# No blanks, and no dash in front, which ssh would take for an option.
_SSH = re.compile(r"[^\s-]\S*\Z")


def known_profiles() -> list[HardwareProfile]:
    """The profiles of the catalog, by number of threads, batch size and name."""
    folder = resources.files("hardware_profiles") / "data"
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    found = [_parse(file.read_text(encoding="utf-8"), file.name) for file in files]
    return sorted(found, key=lambda profile: (profile.threads, profile.batch_size, profile.name))


def load_profile(name_or_path: str) -> HardwareProfile:
    """The profile of a name in the catalog, or of a YAML file (its path ends in .yaml or .yml).

    Raises:
        ProfileError: nothing has that name, or the file is missing, malformed, or takes a name of the catalog.
    """
    catalog = {profile.name: profile for profile in known_profiles()}
    if name_or_path in catalog:
        return catalog[name_or_path]
    if not name_or_path.endswith((".yaml", ".yml")):
        raise ProfileError(
            f"unknown hardware profile {name_or_path!r}{_nearest(name_or_path, catalog)}. "
            f"Known: {', '.join(catalog)}; or give the path of a .yaml file with a profile of your own"
        )
    try:
        text = Path(name_or_path).read_text(encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"{name_or_path}: the profile file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ProfileError(f"{name_or_path}: the profile file is no UTF-8 text") from None
    profile = _parse(text, name_or_path)
    if catalog.get(profile.name, profile) != profile:
        # Figures are kept under the profile's name: two machines of one name would be mixed up.
        raise ProfileError(
            f"{name_or_path}: the name {profile.name!r} is taken by another profile of the catalog; choose another"
        )
    return profile


def check_machine(profile: HardwareProfile) -> None:
    """Returns if this machine has what a profile asks for; of a machine elsewhere, its own worker tells when it starts.

    Raises:
        ProfileError: too few cores, or a provider that the installed ONNX Runtime does not have.
    """
    if profile.remote:
        return
    if not hasattr(os, "sched_getaffinity"):
        raise ProfileError(
            f"profile {profile.name}: latency is measured on Linux alone, which can pin a process to CPUs"
        )
    available = len(os.sched_getaffinity(0))
    if profile.threads > available:
        raise ProfileError(
            f"profile {profile.name} asks for {profile.threads} threads, each on a CPU of its own, and this process may "
            f"use {available} CPU{'s' if available > 1 else ''}; take a profile of fewer threads or allow it more CPUs"
        )
    import onnxruntime  # late: listing profiles needs no runtime

    providers = onnxruntime.get_available_providers()
    if profile.provider not in providers:
        # A provider that exists is no slip of the pen: nothing near it is meant.
        near = "" if profile.provider in onnxruntime.get_all_providers() else _nearest(profile.provider, providers)
        raise ProfileError(
            f"profile {profile.name} asks for the provider {profile.provider!r}{near}; "
            f"ONNX Runtime {onnxruntime.__version__} here has {', '.join(providers)}: "
            f"change the profile, or install a build of ONNX Runtime that has it"
        )


class _Loader(yaml.SafeLoader):
    """A safe loader for which a key that comes twice is an error: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} comes twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _parse(text: str, source: str) -> HardwareProfile:
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise ProfileError(f"{source}: the profile file is no YAML: {told}") from None
    if not isinstance(data, dict):
        raise ProfileError(f"{source}: expected a mapping with the keys {', '.join(_KEYS)}, got {_shown(data)}")
    for key, value in data.items():
        if key in _ELSEWHERE:
            raise ProfileError(f"{source}: {key}: {_ELSEWHERE[key]}")
        if key not in _KEYS:
            near = _nearest(str(key), _KEYS)
            raise ProfileError(f"{source}: unknown key {key!r}{near}. A profile has {', '.join(_KEYS)}")
        wanted = _unmet(key, value)
        if wanted:
            raise ProfileError(f"{source}: {key}: expected {wanted}, got {_shown(value)}")
    if "name" not in data:
        raise ProfileError(f"{source}: the key name is missing; a profile needs one, such as {Path(source).stem!r}")
    if data.get("placement") and data.get("ssh"):
        raise ProfileError(
            f"{source}: placement (a node of the Ray cluster) and ssh (a host outside it) name two places to measure at; "
            "leave one of them out"
        )
    if "python" in data and not data.get("ssh"):
        raise ProfileError(
            f"{source}: python: it is the interpreter on an ssh host; add `ssh: user@host` or leave it out"
        )
    return HardwareProfile(**data)


def _unmet(key: str, value: object) -> str:
    """What was expected of a key's value, empty if the value is that."""
    if key in _WHOLE:
        good = type(value) is int and 1 <= value <= _WHOLE[key]
        return "" if good else f"a whole number from 1 to {_WHOLE[key]}"
    if key == "name":
        good = isinstance(value, str) and _NAME.match(value) is not None
        return "" if good else "a name of letters, digits, '.', '_' and '-', at most 64"
    if key == "placement":
        return "" if _is_placement(value) else "Ray resources with their amounts above 0, such as {hw-raspberrypi5: 1}"
    if key == "ssh":
        good = isinstance(value, str) and (not value or _SSH.match(value) is not None)
        return "" if good else "a host as the ssh command takes it, such as pi@raspberrypi"
    if key == "python":
        return "" if isinstance(value, str) and value.strip() else "the path of an interpreter, such as venv/bin/python"
    return "" if isinstance(value, str) else "text"


def _is_placement(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(resource, str) and resource and type(amount) in (int, float) and 0 < amount < math.inf
        for resource, amount in value.items()
    )


def _nearest(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
