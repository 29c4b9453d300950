"""Checks of the software: Python, required packages and their versions, torch and Ray."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from importlib import metadata

from packaging.requirements import Requirement

from nas.cli.doctor_checks.finding import Finding, ok, warning, wrong
from nas.plugins.parts import install

DISTRIBUTION = "subnet-nas"
OLDEST_PYTHON = (3, 11)
_INSTALL = "pip install --upgrade"


def python(
    version: tuple[int, ...] = tuple(map(int, platform.python_version_tuple()[:2])), system: str = platform.system()
) -> Finding:
    """The interpreter and the operating system."""
    observation = f"{platform.python_implementation()} {platform.python_version()} on {system}"
    if version < OLDEST_PYTHON:
        return wrong("python", observation, f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    if system != "Linux":
        return warning("python", observation, "search on Linux: measurements pin processes, which only Linux supports")
    return ok("python", observation)


def packages(requires: Iterable[str] | None = None, version: Callable[[str], str] = metadata.version) -> list[Finding]:
    """The required packages, and those of each extra that is installed.

    `requires` has the form of a distribution's metadata; None reads this one's.
    """
    if requires is None:
        if not own_version():
            observation = f"{DISTRIBUTION} runs from a folder and is not installed"
            return [warning("packages", observation, "pip install that folder")]
        requires = metadata.requires(DISTRIBUTION) or ()
    needed, extras = _by_extra([Requirement(text) for text in requires])
    findings = [_package_finding("packages", f"{DISTRIBUTION} {own_version()}", needed, version)]
    for extra, extra_requirements in sorted(extras.items()):
        # Without the extras that it takes in, which have their own findings.
        requirements = [r for r in extra_requirements if r.name != DISTRIBUTION]
        # Other packages bring some of an extra's: one that lacks any is not installed, and its features say so.
        if requirements and all(_version(r, version) is not None for r in requirements):
            findings.append(_package_finding(f"extra {extra}", "installed", requirements, version))
    return findings


def own_version() -> str:
    """The version of this distribution; "" if it is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return ""


def torch() -> Finding:
    """torch, and the accelerators that it detects."""
    try:
        import torch as loaded
    except (ImportError, OSError) as error:  # OSError: a missing shared library
        return not_loaded("torch", error)
    observation = f"torch {loaded.__version__}"
    if not loaded.cuda.is_available():
        return ok("torch", f"{observation}, no accelerator: training runs on the CPU")
    names = [loaded.cuda.get_device_name(i) for i in range(loaded.cuda.device_count())]
    return ok("torch", f"{observation}, {', '.join(names)}")


def not_loaded(package: str, error: BaseException) -> Finding:
    """The finding of a package whose import fails."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return wrong(package, f"cannot be loaded: {reason}", f"{_INSTALL} {package}")


def ray_parts(
    requires: Callable[[str], list[str] | None] = metadata.requires, version: Callable[[str], str] = metadata.version
) -> Finding:
    """Ray, with the packages of its dashboard, which runs submitted jobs."""
    try:
        listed, ray_version = requires("ray") or [], version("ray")
    except metadata.PackageNotFoundError:
        return ok("ray", f"is not installed: searches score in one process; {install('ray')} brings it")
    _, extras = _by_extra([Requirement(text) for text in listed])
    missing = sorted({r.name for r in extras.get("default", ()) if _version(r, version) is None})
    if missing:
        observation = f"ray {ray_version} lacks packages that run jobs ({', '.join(missing)})"
        return wrong("ray", observation, f"{_INSTALL} 'ray[default]'")
    return ok("ray", f"ray {ray_version} with its job server")


def _by_extra(requirements: list[Requirement]) -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """Requirements that apply to this machine: the plain ones, and those of each extra but ``dev``."""
    names = {name for r in requirements for name in _extras_of(r)}
    plain = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return plain, {
        name: [r for r in requirements if name in _extras_of(r) and r.marker and r.marker.evaluate({"extra": name})]
        for name in names - {"dev"}
    }


def _extras_of(requirement: Requirement) -> list[str]:
    words = str(requirement.marker or "").replace('"', " ").replace("'", " ").split()
    return [words[i + 2] for i, word in enumerate(words[:-2]) if word == "extra" and words[i + 1] == "=="]


def _package_finding(check: str, subject: str, needed: list[Requirement], version: Callable[[str], str]) -> Finding:
    problems = {}
    for requirement in needed:
        name, wanted, installed = requirement.name, requirement.specifier, _version(requirement, version)
        if installed is None:
            problems[f"{name}{wanted}"] = f"{name} is missing"
        elif not wanted.contains(installed, prereleases=True):
            problems[f"{name}{wanted}"] = f"{name} {installed} is not {wanted}"
    if not problems:
        return ok(check, f"{subject}, with {len(needed)} required package{'s' if len(needed) > 1 else ''}")
    return wrong(check, ", ".join(problems.values()), f"{_INSTALL} {' '.join(map(repr, problems))}")


def _version(requirement: Requirement, version: Callable[[str], str]) -> str | None:
    try:
        return version(requirement.name)
    except metadata.PackageNotFoundError:
        return None
