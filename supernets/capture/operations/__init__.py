"""Operations of programs: what each does to dimensions, how many multiply-accumulates it does, and how it becomes ONNX."""

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
from supernets.capture.operations.arguments import operation
from supernets.capture.operations.registry import LOWERED, RULES, WORK

__all__ = [
    "LOWERED",
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
