"""Names of users' models in commands and jobs, and the default widths of their layers (no torch)."""

from __future__ import annotations

import re

LIBRARIES = ("torchvision", "timm", "transformers")
"""The first parts of names of models in libraries; of transformers, a folder follows."""
HUB = "hub"
"""The name of weights that stands for the library's own, which it downloads or has in its cache."""
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
"""Widths of layers, as fractions of the model's."""
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


ONNX = ".onnx"
"""The end of the names of ONNX files."""


def is_library(name: str) -> bool:
    """Returns whether a name is that of a model in a library."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def is_function(name: str) -> bool:
    """Returns whether a name is ``package.module:function``."""
    return not is_library(name) and _FUNCTION.fullmatch(name) is not None


def is_file(name: str) -> bool:
    """Returns whether a name is the path of a file: a captured model, or an ONNX model."""
    return not is_library(name) and not is_function(name)


def is_captured(name: str) -> bool:
    """Returns whether a name is the path of a captured model."""
    return is_file(name) and not is_onnx(name)


def is_onnx(name: str) -> bool:
    """Returns whether a name is the path of an ONNX file."""
    return is_file(name) and name.lower().endswith(ONNX)
