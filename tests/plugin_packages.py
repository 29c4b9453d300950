"""Installs small packages with plug-ins into a folder, as `pip install --target` would."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

_inferred: Any = metadata._top_level_inferred  # type: ignore[attr-defined]
_parsed: Any = metadata.Distribution.metadata.fget  # type: ignore[attr-defined]


@cache
def _modules(info: Path, changed: int) -> set[str]:
    found: set[str] = _inferred(metadata.Distribution.at(info))
    return found


def _modules_of(distribution: Any) -> set[str]:
    """The modules of a distribution, whose list of files is read once: to read all takes a second in tests of plug-ins."""
    record = Path(distribution._path) / "RECORD"
    return _modules(record.parent, record.stat().st_mtime_ns) if record.is_file() else _inferred(distribution)


@cache
def _metadata(info: Path, changed: int) -> Any:
    return _parsed(metadata.Distribution.at(info))


def _metadata_of(distribution: Any) -> Any:
    """The metadata of a distribution, which is parsed once, likewise."""
    file = Path(distribution._path) / "METADATA"
    return _metadata(file.parent, file.stat().st_mtime_ns) if file.is_file() else _parsed(distribution)


metadata._top_level_inferred = _modules_of  # type: ignore[attr-defined]
metadata.Distribution.metadata = property(_metadata_of)  # type: ignore[assignment,method-assign]


class PluginPackages:
    """Packages in a folder that this process imports from; their modules are forgotten at the end of a test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.syspath_prepend(str(folder))

    def install(
        self,
        name: str,
        modules: Mapping[str, str],
        *,
        version: str = "0.1",
        entries: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Writes a distribution of single-file modules, by module name.

        Args:
            entries: targets by short name, by kind.
        """
        for old in self.folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = []
        for kind, own in (entries or {}).items():
            lines += [f"[subnet_nas.{kind}]", *(f"{short} = {target}" for short, target in own.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        (info / "RECORD").write_text("".join(f"{module}.py,,\n" for module in modules))
        for module, text in modules.items():
            (self.folder / f"{module}.py").write_text(text)
            sys.modules.pop(module, None)

    def forget(self) -> None:
        """Removes the modules of the folder from this process."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]
