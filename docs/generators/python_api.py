"""The reference page of the Python API: a directive of mkdocstrings for each public name of the four packages."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

_HEAD = """\
# Python API

These names are public: they change only with a line in the [changelog](../changelog.md). Import them from the package itself,
e.g. `from nas import load_job`. Examples: the tutorials [Searching from Python](../tutorials/search-from-python.md) and
[Your own algorithm](../tutorials/own-algorithm.md), and the pages of [supernets](../contributing/supernets/index.md),
[predictors](../contributing/predictors/index.md) and [hardware_profiles](../contributing/hardware_profiles/index.md).

"""
PACKAGES: Mapping[str, str] = {
    "nas": "Jobs, runs, searches and their results.",
    "supernets": "Search spaces, shared weights, training, extraction and lowering to ONNX.",
    "predictors": "Arrays in, mean and interval out.",
    "hardware_profiles": "Latency of ONNX models, with its noise floor.",
}


def python_api_page() -> str:
    """A section for each package with the public names that its ``__all__`` lists."""
    return _HEAD + "\n".join(_section(name, about) for name, about in PACKAGES.items() if public(name))


def public(package: str) -> list[str]:
    """The public names of a package, in the order of its ``__all__``."""
    return list(getattr(import_module(package), "__all__", ()))


def _section(package: str, about: str) -> str:
    return f"## {package}\n\n{about}\n\n" + "\n".join(_directive(package, name) for name in public(package))


def _directive(package: str, name: str) -> str:
    """The directive for a name, which refers to the module that defines it, with the public name as its heading."""
    value = getattr(import_module(package), name)
    return f"### {package}.{name}\n\n::: {home(package, name, value)}\n"


def home(package: str, name: str, value: Any) -> str:
    """The dotted path of the definition of a public name; that of the package for a plain value."""
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__qualname__}"
    return value.__name__ if inspect.ismodule(value) else f"{package}.{name}"
