"""``python -m tests.without_parts SUBCOMMAND``: ``nas`` in a process to which the optional packages are not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType

import pytest

from nas.plugins.parts import PARTS

Context = DistributionFinder.Context

_ALL = Context()
OTHERS = ("starlette", "multipart", "psycopg", "torchvision", "pandas", "transformers")
"""Modules of optional parts that `nas.plugins.parts` does not list."""


class FewerModules(PathFinder):
    """The finder of installed modules, for which those of optional parts do not exist."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if is_optional(fullname) else super().find_spec(fullname, path, target)

    @classmethod
    def find_distributions(cls, context: Context = _ALL) -> Iterable[Distribution]:
        return [found for found in super().find_distributions(context) if not is_optional(found.name.lower())]


def is_optional(module: str) -> bool:
    """Whether a module belongs to an optional part."""
    top = module.partition(".")[0]
    return top in OTHERS or any(top in modules for modules in PARTS.values())


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What ``nas ARGUMENTS`` does without the optional packages, with short rounds."""
    return python("-m", "tests.without_parts", *arguments, cwd=cwd)


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What Python does with these arguments, in the tests' environment."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def reject() -> None:
    """Makes the optional packages missing in this process."""
    loaded = [name for name in sys.modules if is_optional(name)]
    if loaded:
        raise RuntimeError(f"loaded already: {loaded}")
    sys.meta_path[sys.meta_path.index(PathFinder)] = FewerModules


if __name__ == "__main__":
    reject()
    from nas.cli import main
    from tests.nas.short_rounds import take_short_rounds

    take_short_rounds(pytest.MonkeyPatch())
    main()
