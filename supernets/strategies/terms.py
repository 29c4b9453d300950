"""Loss terms of a step's subnets: labels, and distillation from the step's largest subnet or a frozen teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from supernets.base import Distillation, LabelLoss, Pass
from supernets.space import Architecture

Teacher = Literal["none", "largest", "frozen"]


def passes(architectures: Sequence[Architecture], teacher: Teacher) -> list[Pass]:
    """One pass over the whole batch for each architecture.

    Args:
        teacher: ``largest``: the first architecture is the largest, it learns from the labels, and the others from it only.
            ``frozen``: each learns from the labels and from the training's frozen teacher with equal weights (Cai et al.
            2020, arXiv 1908.09791).
    """
    match teacher:
        case "none":
            return [Pass(a, (LabelLoss(),)) for a in architectures]
        case "largest":
            first, *others = architectures
            return [Pass(first, (LabelLoss(),)), *(Pass(a, (Distillation(teacher=0),)) for a in others)]
        case "frozen":
            return [Pass(a, (LabelLoss(), Distillation(teacher=None))) for a in architectures]
