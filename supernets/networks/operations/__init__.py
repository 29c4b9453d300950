"""Operations of programs: what each does to dimensions, how many multiply-accumulates it does, and how it becomes ONNX."""

from supernets.networks.operations import (
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
)  # they fill the tables
from supernets.networks.operations.arguments import may_return_view, operation
from supernets.networks.operations.registry import LOWERED, RULES, WORK

__all__ = [
    "LOWERED",
    "RULES",
    "WORK",
    "attention",
    "elementwise",
    "images",
    "joining",
    "linear",
    "may_return_view",
    "normalisation",
    "operation",
    "recurrent",
    "reductions",
    "selection",
    "shapes",
    "tokens",
]
