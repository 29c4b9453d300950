"""Dimensions of the elastic multilayer perceptron (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from supernets.families.shared.spec import Options, Spec


@dataclass(frozen=True)
class MLPSpec(Spec):
    """A space of perceptrons: the options of its elastic dimensions, each smallest first.

    Attributes:
        width: numbers between blocks.
        depth: numbers of blocks, each at least 1.
        hidden: units of the inner layer of each block.
        residual: whether each block adds to its input, or else replaces it.
    """

    width: Annotated[tuple[int, ...], Options(8192)]
    depth: Annotated[tuple[int, ...], Options(32)]
    hidden: Annotated[tuple[int, ...], Options(8192)]
    residual: bool = True


MLP: Mapping[str, MLPSpec] = {
    # For some hundreds of rows.
    "tiny": MLPSpec(width=(8, 16, 32), depth=(1, 2, 3), hidden=(8, 16, 32)),
    # For some ten thousands of rows.
    "small": MLPSpec(width=(32, 64, 128), depth=(1, 2, 3, 4), hidden=(32, 64, 128, 256)),
}
