"""Dimensions that the specs of convolutional families have in common (no torch)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

from supernets.errors import DimensionError, SpaceError
from supernets.families.shared.spec import Number, Options, Spec

# Each limit is far above any network that is trained, and low enough that a typing error is caught.
MAX_WIDTH = 4096
Activation = Literal["relu", "hardswish"]
Channels = Annotated[int, Number(MAX_WIDTH, "a number of channels")]
Stride = Annotated[int, Number(4, "a whole number such as 1 or 2")]
Depth = Annotated[tuple[int, ...], Options(32)]
Width = Annotated[tuple[int, ...], Options(MAX_WIDTH)]
Resolution = Annotated[
    tuple[int, ...],
    Options(1024, "a list of numbers of pixels in ascending order, e.g. [20, 28], or none for images as they are"),
]


@dataclass(frozen=True)
class ConvolutionalSpec(Spec, ABC):
    """A whole space of a convolutional family; subclasses have a field ``resolution``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in getattr(self, "resolution", None) or ():
            try:
                self.check_side(side)
            except SpaceError as error:
                raise DimensionError("resolution", str(error)) from None

    @abstractmethod
    def check_side(self, side: int) -> None:
        """Raises `SpaceError` unless the networks take images of this side.

        Args:
            side: Height and width of the square images, in pixels.
        """


def make_divisible(channels: float) -> int:
    """The nearest multiple of 8, at least 8; the next one if it would lose over a tenth (arXiv 1905.02244's own code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
