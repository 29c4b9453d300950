"""The runtime of a name: a shipped one, one that an installed package registers, or ``module:Class``."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hardware_profiles.errors import ProfileError, suggestion
from hardware_profiles.runtimes.shipped import RUNTIMES

if TYPE_CHECKING:  # it loads numpy
    from hardware_profiles.runtimes.base import Runtime

GROUP = "subnet_nas.runtimes"
"""The entry-point group of names that packages register."""
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def check_name(name: str) -> None:
    """Returns if there may be a runtime of this name; imports nothing.

    Raises:
        ProfileError: it is neither a shipped nor a registered name, nor ``module:Class``.
    """
    _target(name)


@cache
def find_runtime(name: str) -> Runtime:
    """The runtime of a name; its own package is imported when it is first used.

    Raises:
        ProfileError: there is no such runtime, its module cannot be imported, or it has no such class.
    """
    module, _, cls = _target(name).partition(":")
    try:
        return cast("Runtime", getattr(import_module(module), cls)())
    except Exception as error:  # a module of others may raise anything
        why = f"there is no module {module} here" if _is_missing(error, module) else f"{type(error).__name__}: {error}"
        advice = "install its package, or name its folder in PYTHONPATH"
        raise ProfileError(f"the runtime {name}: {why}; {advice}", code="profile.unknown-runtime") from error


def _is_missing(error: Exception, module: str) -> bool:
    """Returns True if an import failed because a module, or a package that it is in, does not exist."""
    return isinstance(error, ModuleNotFoundError) and bool(error.name) and f"{module}.".startswith(f"{error.name}.")


def source_of(name: str) -> str:
    """``FILE:CLASS`` of a runtime: the file with the source of its module. Raises `ProfileError` as `find_runtime`."""
    module, _, cls = _target(name).partition(":")
    spec = find_spec(module) if find_runtime(name) else None
    assert spec is not None  # it was imported
    return f"{Path(str(spec.origin))}:{cls}"


def _target(name: str) -> str:
    """``module:Class`` of a runtime."""
    if name in RUNTIMES:
        return RUNTIMES[name]
    if _DOTTED.fullmatch(name):
        return name
    from importlib.metadata import entry_points  # loads the parser of e-mails

    registered = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    if name in registered:
        return registered[name]
    names = [*RUNTIMES, *sorted(registered)]
    message = f"unknown runtime {name!r}{suggestion(name, names)}; expected one of {', '.join(names)}, or module:Class"
    raise ProfileError(message, code="profile.unknown-runtime")
