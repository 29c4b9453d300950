"""Operations of programs: what each does to dimensions, how many multiply-accumulates it does, and how it becomes ONNX."""

from supernets.networks.operations import (  # noqa: F401  # they fill the tables
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
    suppression,
    tokens,
)
from supernets.networks.operations.arguments import may_return_view, operation, registered
from supernets.networks.operations.registry import LOWERED, RULES, WORK

__all__ = ["LOWERED", "RULES", "WORK", "may_return_view", "operation", "registered"]
