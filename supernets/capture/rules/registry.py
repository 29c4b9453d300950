"""The table of rules: what each ATen operation does to the dimensions of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from supernets.capture.dimensions import (
    fixed,
)
from supernets.capture.inference import Dims, Inference
from supernets.capture.program import Argument, Call

Rule = Callable[[Inference, Call], None]
RULES: dict[str, Rule] = {}
"""By the operation's name without overload."""


def rule_of(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def axis(call: Call, rank: int, name: str = "dim") -> int:
    return cast(int, call.arguments[name]) % max(rank, 1)


def axes(argument: Argument, rank: int) -> list[int]:
    """Positions of dimensions as an argument gives them: none or empty for all."""
    if argument is None or argument == ():
        return list(range(rank))
    given = argument if isinstance(argument, tuple) else (argument,)
    return [cast(int, one) % rank for one in given]


def extents(ctx: Inference, call: Call, start: int, output: int = 0) -> Dims:
    """New fixed dimensions for the spatial extents of an output."""
    return [fixed(size, "an extent of the image") for size in ctx.shape(call.outputs[output])[start:]]
