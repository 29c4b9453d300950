"""The paths of an export's files, checked before anything is loaded that takes longer (no torch)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from nas.engine.store.folder import check_folder
from nas.errors import ExportFailedError
from nas.results.export.manifest import files_of, model_name

CARD = "README.md"
"""The model card of an exported folder."""
_SUFFIX, _PYTHON = ".onnx", ".py"


def export_path(path: Path, run: str, key: str) -> Path:
    """The ONNX file to write: the one that is named, or in a named folder the one that is named after run and network.

    A name without a suffix is a folder's, and so is that of a folder that exists. A missing folder is made when the export
    is written.

    Raises:
        ExportFailedError: The path is neither, or would replace anything but an earlier export.
        StoreError: its folder cannot be made or written.
    """
    return _checked(path, model_name(run, key), _SUFFIX, paths_beside)


def cascade_paths(folder: Path, run: str) -> tuple[Path, Path, Path]:
    """The ONNX files of a cascade's small network, of its large one, and of both, in a folder.

    Raises:
        ExportFailedError, StoreError: For the reasons of `export_path`.
    """
    small, large, graph = (export_path(folder / f"{name}{_SUFFIX}", run, "") for name in ("small", "large", "cascade"))
    return small, large, graph


def torch_path(path: Path, run: str, key: str) -> Path:
    """The Python file to write, as `export_path`; in a folder, its name is one that Python imports.

    Raises:
        ExportFailedError, StoreError: For the reasons of `export_path`.
    """
    stem = re.sub(r"\W", "_", Path(model_name(run, key)).stem, flags=re.ASCII)
    return _checked(path, f"{'_' if stem[0].isdecimal() else ''}{stem}{_PYTHON}", _PYTHON, _beside_python)


def _checked(path: Path, name: str, suffix: str, beside: Callable[[Path], tuple[Path, ...]]) -> Path:
    if path.is_dir() or (not path.suffix and not path.exists()):
        path = path / name
    if path.suffix != suffix:
        message = f"{path}: expected a file that ends in {suffix}, or a folder to name the file in (without a suffix)"
        raise ExportFailedError(message, code="export.invalid-path")
    check_folder(path.absolute().parent)
    exported = files_of(path.with_suffix(".json"))
    for file in (path, *beside(path)):
        if file.exists() and file.name not in exported:
            message = f"{file} exists and was not written by an earlier export; choose another path or remove it"
            raise ExportFailedError(message, code="file.exists")
    return path


def _beside_python(path: Path) -> tuple[Path, ...]:
    return path.with_suffix(".safetensors"), path.with_suffix(".json")


def check_empty(folder: Path) -> None:
    """Raises unless a folder is empty or missing.

    Raises:
        ExportFailedError: The folder has files.
        StoreError: The path is a file, or cannot be made or written.
    """
    check_folder(folder)
    if folder.exists() and any(folder.iterdir()):
        message = f"{folder} exists and is no empty folder; choose another path, or move it"
        raise ExportFailedError(message, code="file.exists")


def paths_beside(path: Path) -> tuple[Path, Path, Path, Path]:
    """The paths of the weights, the manifest, the tokenizer and the script of an ONNX file."""
    suffixes = (".safetensors", ".json", ".tokenizer.json", ".predict.py")
    weights, manifest, tokenizer, script = (path.with_suffix(suffix) for suffix in suffixes)
    return weights, manifest, tokenizer, script
