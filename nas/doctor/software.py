"""Whether the software that is needed is there, in the versions that are needed, and can be loaded."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from importlib import metadata

from packaging.requirements import Requirement

from nas.doctor.finding import Finding, ok, warning, wrong

DISTRIBUTION = "subnet-nas"
OLDEST_PYTHON = (3, 11)
_INSTALL = "pip install --upgrade"


def python(
    version: tuple[int, ...] = tuple(map(int, platform.python_version_tuple()[:2])), system: str = platform.system()
) -> Finding:
    """The interpreter and the operating system."""
    found = f"{platform.python_implementation()} {platform.python_version()} on {system}"
    if version < OLDEST_PYTHON:
        return wrong("python", found, f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    if system != "Linux":
        return warning(
            "python", found, "search on Linux: latency is measured there alone, where a process can be pinned"
        )
    return ok("python", found)


def packages(requires: Iterable[str] | None = None, version: Callable[[str], str] = metadata.version) -> list[Finding]:
    """The packages that are always needed, and those of each extra of which any is installed.

    Args:
        requires: requirements as in a distribution's metadata; None takes this one's own.
        version: of an installed distribution.
    """
    if requires is None:
        if not own_version():
            return [
                warning(
                    "packages", f"{DISTRIBUTION} runs from a folder and is not installed", "pip install that folder"
                )
            ]
        requires = metadata.requires(DISTRIBUTION) or ()
    needed, extras = _by_extra([Requirement(text) for text in requires])
    findings = [_checked("packages", f"{DISTRIBUTION} {own_version()}", needed, version)]
    for extra, its in sorted(extras.items()):
        if any(_version(r, version) is not None for r in its):
            findings.append(_checked(f"extra {extra}", "installed", its, version))
    return findings


def own_version() -> str:
    """Of this distribution; "" where it is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return ""


def torch() -> Finding:
    """What trains: torch, and the accelerator that it sees."""
    try:
        import torch as loaded
    except (ImportError, OSError) as error:  # OSError: a shared library that is not there
        return wrong("torch", f"cannot be loaded: {_line(error)}", f"{_INSTALL} torch")
    found = f"torch {loaded.__version__}"
    if not loaded.cuda.is_available():
        return ok("torch", f"{found}, no accelerator: training runs on the CPU")
    names = [loaded.cuda.get_device_name(i) for i in range(loaded.cuda.device_count())]
    return ok("torch", f"{found}, {', '.join(names)}")


def ray_parts(
    requires: Callable[[str], list[str] | None] = metadata.requires, version: Callable[[str], str] = metadata.version
) -> Finding:
    """Ray, with the parts of its dashboard, which submitted jobs run through."""
    try:
        listed, own = requires("ray") or [], version("ray")
    except metadata.PackageNotFoundError:
        return wrong("ray", "is not installed", f"{_INSTALL} 'ray[default]'")
    _, extras = _by_extra([Requirement(text) for text in listed])
    missing = sorted({r.name for r in extras.get("default", ()) if _version(r, version) is None})
    if missing:
        return wrong(
            "ray", f"ray {own} without the parts that run jobs ({', '.join(missing)})", f"{_INSTALL} 'ray[default]'"
        )
    return ok("ray", f"ray {own} with its job server")


def _by_extra(requirements: list[Requirement]) -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """Requirements that hold on this machine: the plain ones, and those of each extra but ``dev``."""
    names = {name for r in requirements for name in _extras_of(r)}
    plain = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return plain, {
        name: [r for r in requirements if name in _extras_of(r) and r.marker and r.marker.evaluate({"extra": name})]
        for name in names - {"dev"}
    }


def _extras_of(requirement: Requirement) -> list[str]:
    words = str(requirement.marker or "").replace('"', " ").replace("'", " ").split()
    return [words[i + 2] for i, word in enumerate(words[:-2]) if word == "extra" and words[i + 1] == "=="]


def _checked(check: str, what: str, needed: list[Requirement], version: Callable[[str], str]) -> Finding:
    bad = []
    for requirement in needed:
        there = _version(requirement, version)
        if there is None:
            bad.append((requirement, f"{requirement.name} is missing"))
        elif not requirement.specifier.contains(there, prereleases=True):
            bad.append((requirement, f"{requirement.name} {there} is not {requirement.specifier}"))
    if not bad:
        return ok(check, f"{what}, with {len(needed)} package{'s' if len(needed) > 1 else ''} as needed")
    told = ", ".join(text for _, text in bad)
    return wrong(check, told, f"{_INSTALL} {' '.join(repr(f'{r.name}{r.specifier}') for r, _ in bad)}")


def _version(requirement: Requirement, version: Callable[[str], str]) -> str | None:
    try:
        return version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
