"""What each ATen operation does to the dimensions of its tensors."""

from supernets.capture.rules import (
    elementwise,
    joining,
    linear,
    recurrent,
    reductions,
    shapes,
    windows,
)  # they fill the table
from supernets.capture.rules.registry import RULES

__all__ = ["RULES", "elementwise", "joining", "linear", "recurrent", "reductions", "shapes", "windows"]
