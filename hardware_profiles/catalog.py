"""Hardware profiles by name, from the shipped catalog or from a user's YAML file."""

from __future__ import annotations

import math
import os
import platform
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml: equal results, in more time
    from yaml import SafeLoader  # type: ignore[assignment]

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ProfileError, suggestion
from hardware_profiles.files import check_regular
from hardware_profiles.requirements import check_requirements, platform_error
from hardware_profiles.runtimes.lookup import check_name, find_runtime
from hardware_profiles.runtimes.shipped import RUNTIMES
from hardware_profiles.waiting import MAX_WAIT_MINUTES

MAX_THREADS = 1024
MAX_BATCH = 65_536
BROWSER_PROVIDERS = ("wasm", "webgpu")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")  # part of objectives (latency_ms@NAME), file names and URLs
_PROVIDER = re.compile(r"[A-Za-z][A-Za-z0-9]{0,79}\Z")  # never the path of a library to load
_SSH = re.compile(r"[^\s-]\S*\Z")  # no blanks, and no leading dash, which ssh would take for an option


def _is_placement(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(resource, str) and resource and type(amount) in (int, float) and 0 < amount < math.inf
        for resource, amount in value.items()
    )


_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda v: isinstance(v, str) and bool(_NAME.match(v)), "letters, digits, '.', '_' and '-', at most 64"),
    "threads": (lambda v: type(v) is int and 1 <= v <= MAX_THREADS, f"an integer from 1 to {MAX_THREADS}"),
    "batch_size": (lambda v: type(v) is int and 1 <= v <= MAX_BATCH, f"an integer from 1 to {MAX_BATCH}"),
    "provider": (
        lambda v: isinstance(v, str) and bool(_PROVIDER.match(v)),
        "the name of a provider of ONNX Runtime, such as CPUExecutionProvider, or of a device of OpenVINO, such as CPU",
    ),
    # Its name is checked below.
    "runtime": (lambda v: isinstance(v, str), f"one of {', '.join(RUNTIMES)}, or module:Class"),
    "placement": (_is_placement, "Ray resources with amounts above 0, such as {hw-raspberrypi5: 1}"),
    "ssh": (lambda v: v == "" or (isinstance(v, str) and bool(_SSH.match(v))), "a host, such as pi@raspberrypi"),
    "browser": (lambda v: isinstance(v, bool), "true or false"),
    "python": (lambda v: isinstance(v, str) and bool(v.strip()), "the path of an interpreter, such as venv/bin/python"),
    "description": (lambda v: isinstance(v, str), "text"),
    "wait_minutes": (
        lambda v: type(v) in (int, float) and 0 <= v <= MAX_WAIT_MINUTES,
        f"minutes from 0 to {MAX_WAIT_MINUTES}",
    ),
}
"""The check of a value, and the expected kind of value, by key of a profile's file."""


def known_profiles() -> list[HardwareProfile]:
    """The profiles of the catalog, by number of threads, batch size and name."""
    return list(_catalog().values())


@cache
def _catalog() -> Mapping[str, HardwareProfile]:
    """The profiles of the catalog by name, in the order of `known_profiles`."""
    folder = resources.files("hardware_profiles") / "data"
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    profiles = [_parse(file.read_text(encoding="utf-8"), file.name) for file in files]
    profiles.sort(key=lambda profile: (profile.threads, profile.batch_size, profile.name))
    return {profile.name: profile for profile in profiles}


def load_profile(name_or_path: str) -> HardwareProfile:
    """The profile with this name in the catalog, or of this YAML file (its path ends in .yaml or .yml).

    Args:
        name_or_path: Name of a profile of the catalog, which comes first; or path of a regular file in UTF-8, relative to the
            working directory unless it is absolute.

    Raises:
        ProfileError: the name is unknown, or the file is missing, malformed, or uses a name of the catalog.
    """
    catalog = _catalog()
    if name_or_path in catalog:
        return catalog[name_or_path]
    if not name_or_path.endswith((".yaml", ".yml")):
        raise ProfileError(
            f"unknown hardware profile {name_or_path!r}{suggestion(name_or_path, catalog)}; "
            f"expected one of {', '.join(catalog)}, or the path of a .yaml file with a profile of your own",
            code="profile.unknown",
        )
    try:
        check_regular(Path(name_or_path))
        text = Path(name_or_path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ProfileError(f"{name_or_path}: cannot read the profile: {why}", code="profile.unreadable") from None
    profile = _parse(text, name_or_path)
    if catalog.get(profile.name, profile) != profile:
        # Measurements are stored under the profile's name: those of two machines with one name would be mixed.
        message = f"{name_or_path}: the name {profile.name!r} belongs to a profile of the catalog; choose another"
        raise ProfileError(message, code="profile.name-taken")
    return profile


def in_runtime(profile: HardwareProfile, runtime: str) -> HardwareProfile:
    """A CPU profile in another runtime.

    Raises:
        ProfileError: the runtime is unknown, its module is missing, or the profile is not measured on a CPU.
    """
    check_name(runtime)
    if runtime == profile.runtime:
        return profile
    if not profile.on_cpu:
        message = f"profile {profile.name} runs on {profile.provider}; runtimes can be exchanged on a CPU only"
        raise ProfileError(f"{message}; write a profile file for {runtime}", code="profile.unknown-runtime")
    return replace(profile, runtime=runtime, provider=find_runtime(runtime).device)


def check_machine(profile: HardwareProfile) -> None:
    """Returns if this machine meets a profile's requirements; the worker of a remote profile checks its own machine.

    Raises:
        ProfileError: too few CPUs, a runtime that is not installed, a provider that it lacks, or no Linux.
    """
    if profile.remote:
        return
    if not hasattr(os, "sched_getaffinity"):
        raise platform_error(profile, platform.system())
    environment = {
        "host": "this machine",
        "allowed_cpus": len(os.sched_getaffinity(0)),
        "quota_cpus": None,  # the worker checks it
        **runtime_here(profile),
    }
    check_requirements(profile, environment)


def runtime_here(profile: HardwareProfile) -> dict[str, Any]:
    """The version of a profile's runtime on this machine, and its devices, as its worker would describe them.

    Raises:
        ProfileError: there is no such runtime, or it is not installed.
    """
    runtime = find_runtime(profile.runtime)
    try:
        return _installed(profile.runtime)
    except ImportError as error:
        fault = f"`import {runtime.package}` fails ({error}); install it: pip install {runtime.package}"
        message = f"profile {profile.name} is measured in {runtime.label}, and {fault}"
        raise ProfileError(message, code="profile.runtime-missing") from None


@cache
def _installed(name: str) -> dict[str, Any]:
    """A runtime's version and devices. Raises `ImportError` where it is not installed."""
    runtime, version = find_runtime(name), find_runtime(name).version()
    runtime_label = {} if name == "onnxruntime" else {"runtime": f"{runtime.label} {version}"}
    return {runtime.package: version, **runtime_label, "available_providers": runtime.devices()}


def environment_for(profile: HardwareProfile, environment: Mapping[str, Any]) -> Mapping[str, Any]:
    """This machine's description with ONNX Runtime, with the runtime of a profile in its place.

    Raises:
        ProfileError: the runtime is not installed.
    """
    return environment if profile.runtime == "onnxruntime" else {**environment, **runtime_here(profile)}


class _Loader(SafeLoader):
    """A safe loader that rejects a repeated key, where YAML's would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key in (str(key.value) for key, _ in node.value):
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is repeated", node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


def _parse(text: str, source: str) -> HardwareProfile:
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        message = f"{source}: the profile is not valid YAML: {' '.join(str(error).split())}"
        raise ProfileError(message, code="profile.not-yaml") from None
    if not isinstance(data, dict):
        raise ProfileError(f"{source}: expected a mapping with the keys {', '.join(_CHECKS)}, got {_shown(data)}")
    for key, value in data.items():
        if key not in _CHECKS:
            hint = f"{suggestion(str(key), _CHECKS)}; a profile has {', '.join(_CHECKS)}"
            if key == "precision":
                hint = "; it belongs to the job: write `precisions: [fp32, int8]` in the job file"
            raise ProfileError(f"{source}: unknown key {key!r}{hint}", code="profile.unknown-key")
        valid, expected = _CHECKS[key]
        if not valid(value):
            message = f"{source}: {key}: expected {expected}, got {_shown(value)}"
            raise ProfileError(message, code="profile.invalid-value")
    if "name" not in data:
        raise ProfileError(f"{source}: the key name is missing; add one, such as `name: {Path(source).stem}`")
    if len(places := [key for key in ("placement", "ssh", "browser") if data.get(key)]) > 1:
        names = {"placement": "placement (a Ray node)", "ssh": "ssh (a host)", "browser": "browser"}
        shown = " and ".join(names[key] for key in places)
        raise ProfileError(f"{source}: {shown} exclude each other; remove one")
    if data.get("browser"):
        data = {"provider": BROWSER_PROVIDERS[0], **data}
        if data["provider"] not in BROWSER_PROVIDERS or data.get("runtime", "onnxruntime") != "onnxruntime":
            message = f"{source}: a browser has the provider {' or '.join(BROWSER_PROVIDERS)} of ONNX Runtime Web"
            raise ProfileError(f"{message}; change provider or runtime", code="profile.invalid-value")
    if "python" in data and not data.get("ssh"):
        raise ProfileError(f"{source}: python: it is the interpreter on an ssh host; add `ssh: user@host` or remove it")
    if "wait_minutes" in data and not places:
        raise ProfileError(
            f"{source}: wait_minutes: only another machine can be away; add ssh, placement or browser, or remove it"
        )
    if (name := data.get("runtime", "onnxruntime")) != "onnxruntime":
        try:
            data = {"provider": find_runtime(name).device, **data}
        except ProfileError as error:
            raise ProfileError(f"{source}: runtime: {error}", code=error.code) from None
    return HardwareProfile(**data)


def _shown(value: object) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"
