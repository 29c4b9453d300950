"""Dimensions of the elastic MobileNet-style CNN (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from supernets.errors import DimensionError, SpaceError
from supernets.families.convolutional_spec import (
    MAX_WIDTH,
    Activation,
    Channels,
    ConvolutionalSpec,
    Depth,
    Resolution,
    Stride,
    Width,
)
from supernets.families.spec import Number, Options, Spec


@dataclass(frozen=True)
class StageSpec(Spec):
    """One stage: the stride of its first block, and the options of its elastic dimensions, each smallest first.

    Attributes:
        stride: of the first block; the others have stride 1.
        depth: numbers of blocks, each at least 1.
        width: output channels of the stage's blocks.
        kernel: sides of the depthwise convolutions; odd.
        expand: ratios of a block's hidden channels to its input channels.
        squeeze: whether the blocks weigh their hidden channels by squeeze-and-excitation.
        activation: of the blocks' hidden channels.
    """

    stride: Stride
    depth: Depth
    width: Width
    kernel: Annotated[tuple[int, ...], Options(31)]
    expand: Annotated[tuple[int, ...], Options(16)]
    squeeze: bool = False
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        even = [kernel for kernel in self.kernel if kernel % 2 == 0]
        if even:
            raise DimensionError("kernel", f"expected odd sides, for equal padding on both sides; got {even[0]}")


@dataclass(frozen=True)
class CNNSpec(ConvolutionalSpec):
    """A whole space of the family: fixed stem and head, elastic stages between them.

    Attributes:
        stem: output channels of the first convolution.
        stem_stride: its stride.
        head: output channels of the last 1x1 convolution, before pooling and the classifier.
        activation: of the stem and the head.
        mix: channels of a linear layer with hard-swish between pooling and the classifier; None for none.
        resolution: sides that the images are resized to, in pixels; None: they stay as the data have them.
    """

    stem: Channels
    stem_stride: Stride
    stages: tuple[StageSpec, ...]
    head: Channels
    activation: Activation = "relu"
    mix: Annotated[int, Number(MAX_WIDTH, "a number of channels, or 0 for no such layer")] | None = None
    resolution: Resolution | None = None

    def check_side(self, side: int) -> None:
        """Raises `SpaceError` unless images of this side leave each stage as many pixels as its stride."""
        left = side
        strided = [("the stem", self.stem_stride), *((f"stage {s}", t.stride) for s, t in enumerate(self.stages))]
        for where, stride in strided:
            if left < stride:
                raise SpaceError(
                    f"images of {side} pixels are too small: {left} pixels of them reach {where}, whose stride "
                    f"is {stride}; use larger images, smaller strides or fewer stages"
                )
            left = -(-left // stride)
