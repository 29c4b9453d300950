"""Runs the scripts of exports, as users do and as modules."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

PROJECT = ("nas", "supernets", "predictors", "hardware_profiles")
HEAVY = ("torch", "onnx", "transformers")


def found_by(
    script: Path, given: Sequence[str | Path], *, without: Sequence[str] = (*PROJECT, *HEAVY)
) -> list[tuple[str, float]]:
    """The class and probability that a script prints first for each argument, where some packages cannot be imported."""
    forbidden = f"import sys; sys.modules.update(dict.fromkeys({tuple(without)!r}))"
    code = f"{forbidden}; import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    made = subprocess.run(
        [sys.executable, "-I", "-c", code, script, *given], capture_output=True, text=True, check=False, timeout=600
    )
    assert made.returncode == 0, made.stderr
    lines = made.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == list(map(str, given))
    first = [line.partition(": ")[2].partition(",")[0].rpartition(" ") for line in lines]
    return [(name, float(share.rstrip("%")) / 100) for name, _, share in first]


def prediction_of(script: Path) -> tuple[Any, Callable[[str], NDArray[Any]]]:
    """The network of a script that predicts, and the script's preprocessing."""
    module = module_of(script)
    network = module.network_beside(script)
    return network, module.preprocessor(network)


def module_of(script: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location("predict", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bare_interpreter(folder: Path, *packages: str) -> list[str]:
    """A command that runs a script where only the standard library and these installed packages can be imported.

    Args:
        folder: empty; gets links to the packages.
    """
    for package in packages:
        files = importlib.metadata.distribution(package).files or ()
        for name in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            (folder / name).symlink_to(str(importlib.metadata.distribution(package).locate_file(name)))
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; "
        f"sys.path.append({str(folder)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return [sys.executable, "-I", "-S", "-c", code]  # -S: without the packages of the interpreter
