"""References to plug-ins: the kinds of plug-ins, and where the class of one comes from."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.metadata import packages_distributions, version
from typing import Any, Self

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Kind(StrEnum):
    """Kinds of plug-ins; packages register short names in the entry-point group `subnet_nas.<kind>`."""

    SEARCH = "search"
    PREDICTORS = "predictors"
    FAMILIES = "families"
    STRATEGIES = "strategies"
    METRICS = "metrics"
    DATA = "data"
    TASKS = "tasks"
    RUNTIMES = "runtimes"

    @property
    def group(self) -> str:
        """The entry-point group of its short names."""
        return f"subnet_nas.{self.value}"

    @property
    def noun(self) -> str:
        """One plug-in of the kind, for messages."""
        return _NOUNS[self]

    @property
    def page(self) -> str:
        """The page of the documentation that shows how to write one, for messages."""
        return f"docs/how-to/extending/{_PAGES.get(self, self.noun)}.md"


_NOUNS = {
    Kind.SEARCH: "algorithm",
    Kind.PREDICTORS: "predictor",
    Kind.FAMILIES: "family",
    Kind.STRATEGIES: "strategy",
    Kind.METRICS: "metric",
    Kind.DATA: "data set",
    Kind.TASKS: "task",
    Kind.RUNTIMES: "runtime",
}
_PAGES = {Kind.SEARCH: "plugin", Kind.DATA: "data-set"}


def is_dotted(name: str) -> bool:
    """Returns True if a name has the form `module:Class`."""
    return _DOTTED.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class PluginRef:
    """A plug-in that a job names.

    Attributes:
        kind: Kind of the plug-in.
        name: The name as the job writes it: a registered short name, or `module:Class`.
        target: The class as `module:Class`.
        package: The distribution that has the module; "" where none has it, e.g. for a module on `PYTHONPATH`.
        version: The version of the distribution; "" without one.
        is_object: True if the caller passed an object from Python, which no name can make again; JSON calls this ``given``.
    """

    kind: Kind
    name: str
    target: str
    package: str = ""
    version: str = ""
    is_object: bool = False

    def __str__(self) -> str:
        """``algorithm hill-climb (pkg.search:HillClimb of pkg 0.1)``."""
        target = "" if self.name == self.target else self.target
        shown = " of ".join(part for part in (target, f"{self.package} {self.version}".strip()) if part)
        return f"{self.kind.noun} {self.name}" + (f" ({shown})" if shown else "")

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` reads it."""
        data = asdict(self)
        data["given"] = data.pop("is_object")
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reference that `to_json` wrote.

        Args:
            data: Mapping with the attributes by name; ``kind`` is a text such as ``search``, and ``given`` stands for
                `is_object` (False where it is absent).
        """
        fields = {**data, "kind": Kind(data["kind"])}
        is_object = fields.pop("given", False)
        return cls(**fields, is_object=is_object)


def of_object(kind: Kind, implementation: object) -> PluginRef:
    """The reference to a class, or to an object's class, that a caller passed from Python.

    Args:
        kind: Kind of the plug-in.
        implementation: A class, a function or any other object; of an object without a name the reference is to its class.
    """
    # A class or a function has a name itself.
    source: Any = implementation if hasattr(implementation, "__qualname__") else type(implementation)
    target = f"{source.__module__}:{source.__qualname__}"
    reachable = isinstance(implementation, type) and is_dotted(target)
    return PluginRef(kind, target, target, *owner(source.__module__), is_object=not reachable)


def owner(module: str) -> tuple[str, str]:
    """The distribution that has a module, and its version; two empty texts where none has it."""
    packages = _distributions(searched_folders()).get(module.partition(".")[0])
    return (packages[0], version(packages[0])) if packages else ("", "")


def searched_folders() -> tuple[tuple[str, int], ...]:
    """The folders of installed packages, with the times of their last change: anything installed or removed changes one."""
    return tuple((path, os.stat(path).st_mtime_ns) for path in sys.path if os.path.isdir(path))


@lru_cache(maxsize=1)
def _distributions(folders: tuple[tuple[str, int], ...]) -> Mapping[str, list[str]]:
    """The distributions by module, cached: reading the lists of files of all takes up to a second.

    Args:
        folders: The `searched_folders` of now: the key of the cache.
    """
    return packages_distributions()
