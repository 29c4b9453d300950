"""Dimensions of the elastic ResNet (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from supernets.errors import SpaceError
from supernets.families.convolutional.convolutional_spec import (
    ConvolutionalSpec,
    Depth,
    Resolution,
    Stride,
    Width,
    make_divisible,
)
from supernets.families.shared.spec import Ratios, Spec, check_distinct


@dataclass(frozen=True)
class BottleneckStage(Spec):
    """One stage: the stride of its first block, and the options of its elastic dimensions, each smallest first.

    Attributes:
        stride: stride of the first block; the others have stride 1.
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
        stem_stride: stride of the first convolution.
        stages: stages of bottleneck blocks.
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


RESNET: Mapping[str, ResNetSpec] = {
    # Once-for-All's space (arXiv 1908.09791) around ResNet-50D, for colour images of 224 pixels: widths of 0.65, 0.8 and 1
    # times ResNet-50's, rounded to multiples of 8.
    "ofa-resnet50": ResNetSpec(
        stem=(40, 48, 64),
        stem_stride=2,
        stem_pool=True,
        stages=(
            BottleneckStage(stride=1, depth=(2, 3, 4), width=(168, 208, 256), expand=(0.2, 0.25, 0.35)),
            BottleneckStage(stride=2, depth=(2, 3, 4), width=(336, 408, 512), expand=(0.2, 0.25, 0.35)),
            BottleneckStage(stride=2, depth=(4, 5, 6), width=(664, 816, 1024), expand=(0.2, 0.25, 0.35)),
            BottleneckStage(stride=2, depth=(2, 3, 4), width=(1328, 1640, 2048), expand=(0.2, 0.25, 0.35)),
        ),
        resolution=(128, 160, 192, 224),
    ),
    # 28 x 28 grey images: less than half a million parameters, MACs spanning more than 8 x.
    "tiny": ResNetSpec(
        stem=(8, 16),
        stem_stride=2,
        stages=(
            BottleneckStage(stride=1, depth=(1, 2, 3), width=(24, 32, 48), expand=(0.25, 0.5)),
            BottleneckStage(stride=2, depth=(1, 2, 3), width=(48, 64, 96), expand=(0.25, 0.5)),
            BottleneckStage(stride=1, depth=(1, 2, 3), width=(64, 96, 128), expand=(0.25, 0.35, 0.5)),
        ),
        resolution=(20, 24, 28),
    ),
    # 8 x 8 grey images: the stem keeps the resolution.
    "digits": ResNetSpec(
        stem=(8, 16),
        stem_stride=1,
        stages=(
            BottleneckStage(stride=1, depth=(1, 2), width=(16, 32), expand=(0.5, 1)),
            BottleneckStage(stride=2, depth=(1, 2, 3), width=(32, 48, 64), expand=(0.25, 0.5)),
        ),
    ),
}
