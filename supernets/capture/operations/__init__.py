"""ATen operations: what each does to dimensions, how many multiply-accumulates it does, and how it becomes ONNX."""

from supernets.capture.operations import (
    attention,
    elementwise,
    images,
    joining,
    linear,
    normalisation,
    recurrent,
    reductions,
    selection,
    shapes,
    tokens,
    windows,
)  # they fill the tables
from supernets.capture.operations.registry import RULES, WORK, operation

__all__ = [
    "RULES",
    "WORK",
    "attention",
    "elementwise",
    "images",
    "joining",
    "linear",
    "normalisation",
    "operation",
    "recurrent",
    "reductions",
    "selection",
    "shapes",
    "tokens",
    "windows",
]
