"""The tables of operations: what each does to dimensions, and how many multiply-accumulates it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch

from supernets.capture.dimensions import Dimension, fixed
from supernets.capture.inference import Dims, Inference
from supernets.capture.program import Argument, Call, Ref
from supernets.errors import CaptureError

Rule = Callable[[Inference, Call], None]
RULES: dict[str, Rule] = {}
"""What operations do to the dimensions of their tensors, by the operation's name without overload."""
Products = list[list[Dimension]] | list[tuple[list[Dimension], list[Dimension]]]
"""For each product of matrices in a call, all dimensions over which it loops; with those of what it returns, where these
are not the call's output."""
WORK: dict[str, Callable[[Inference, Call], Products]] = {}
"""The multiply-accumulates of operations that have some, by the operation's name without overload."""


def rule_of(*names: str) -> Callable[[Rule], Rule]:
    """Registers what operations do to dimensions."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def work_of(*names: str) -> Callable[[Callable[[Inference, Call], Products]], Callable[[Inference, Call], Products]]:
    """Registers the multiply-accumulates of operations."""

    def register(work: Callable[[Inference, Call], Products]) -> Callable[[Inference, Call], Products]:
        WORK.update(dict.fromkeys(names, work))
        return work

    return register


def operation(call: Call) -> Any:
    """The ATen operation of a call."""
    namespace, name, overload = call.op.split(".")
    if namespace == "nas_one":
        import one  # type: ignore[import-not-found]

        return one.EAGER[name]
    try:
        return getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except AttributeError:
        text = f"this version of torch has no operation {call.op}; capture the network again"
        raise CaptureError(text, code="capture.unknown-operation") from None


def dims_of(inference: Inference, argument: Argument) -> Dims:
    """The dimensions of a tensor argument after all rules; none of other arguments."""
    return inference.dims[argument.name] if isinstance(argument, Ref) else []


def axis(call: Call, rank: int, name: str = "dim") -> int:
    """The position of the dimension that an argument names."""
    return cast(int, call.arguments[name]) % max(rank, 1)


def axes(argument: Argument, rank: int) -> list[int]:
    """Positions of dimensions as an argument gives them: none or empty for all."""
    if argument is None or argument == ():
        return list(range(rank))
    positions = argument if isinstance(argument, tuple) else (argument,)
    return [cast(int, position) % rank for position in positions]


def extents(ctx: Inference, call: Call, start: int, output: int = 0) -> Dims:
    """New fixed dimensions for the spatial extents of an output."""
    return [fixed(size, "an extent of the image") for size in ctx.shape(call.outputs[output])[start:]]
