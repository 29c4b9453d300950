"""Dimensions of the elastic ResNet (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from supernets.errors import SpaceError
from supernets.families.convolutional_spec import ConvolutionalSpec, Depth, Resolution, Stride, Width, make_divisible
from supernets.families.spec import Ratios, Spec, check_distinct


@dataclass(frozen=True)
class BottleneckStage(Spec):
    """One stage: the stride of its first block, and the options of its elastic dimensions, each smallest first.

    Attributes:
        stride: of the first block; the others have stride 1.
        depth: numbers of blocks, each at least 1.
        width: output channels of the stage's blocks.
        expand: ratios of a block's inner channels to its output channels; the channels are rounded to a multiple of 8 (see
            `bottleneck`), and no two ratios may give the same.
    """

    stride: Stride
    depth: Depth
    width: Width
    expand: Annotated[tuple[float, ...], Ratios(1)]

    def __post_init__(self) -> None:
        super().__post_init__()
        for width in self.width:
            check_distinct("expand", self.expand, width, partial(bottleneck, width))


@dataclass(frozen=True)
class ResNetSpec(ConvolutionalSpec):
    """A whole space of the family.

    Attributes:
        stem: output channels of the stem's three convolutions; the first two have half of them.
        stem_stride: of the first convolution.
        stages: of bottleneck blocks.
        stem_pool: whether the stem ends in a pooling of stride 2.
        resolution: sides that the images are resized to, in pixels; None: they stay as the data have them.
    """

    stem: Width
    stem_stride: Stride
    stages: tuple[BottleneckStage, ...]
    stem_pool: bool = False
    resolution: Resolution | None = None

    def check_side(self, side: int) -> None:
        """Raises `SpaceError` unless each stage's stride divides the pixels that reach it of images of this side.

        A shortcut averages as many pixels as its stride has: it would not see a rest at an edge, though the block's own
        convolution does. The stem has no shortcut, and rounds up.
        """
        left = -(-side // self.stem_stride)
        left = -(-left // 2) if self.stem_pool else left
        for s, stage in enumerate(self.stages):
            if left % stage.stride:
                raise SpaceError(
                    f"images of {side} pixels do not fit: {left} pixels of them reach stage {s}, whose stride is "
                    f"{stage.stride}; use sizes of images that every stride divides, or other strides"
                )
            left //= stage.stride


def bottleneck(outputs: int, expand: float) -> int:
    """Inner channels of a block with this number of output channels."""
    return make_divisible(outputs * expand)
