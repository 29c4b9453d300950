"""Dimensions of the elastic MobileNet-style CNN (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from supernets.errors import DimensionError, SpaceError
from supernets.families.convolutional.convolutional_spec import (
    MAX_WIDTH,
    Activation,
    Channels,
    ConvolutionalSpec,
    Depth,
    Resolution,
    Stride,
    Width,
)
from supernets.families.shared.spec import Number, Options, Spec


@dataclass(frozen=True)
class StageSpec(Spec):
    """One stage: the stride of its first block, and the options of its elastic dimensions, each smallest first.

    Attributes:
        stride: stride of the first block; the others have stride 1.
        depth: numbers of blocks, each at least 1.
        width: output channels of the stage's blocks.
        kernel: sides of the depthwise convolutions; odd.
        expand: ratios of a block's hidden channels to its input channels.
        squeeze: whether the blocks weigh their hidden channels by squeeze-and-excitation.
        activation: activation of the blocks' hidden channels.
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
        stages: the elastic stages in their order; 1 to 16.
        head: output channels of the last 1x1 convolution, before pooling and the classifier.
        activation: activation of the stem and the head.
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
                    f"images of {side} pixels are too small: {left} pixels reach {where}, whose stride is {stride}; use "
                    "larger images, smaller strides or fewer stages"
                )
            left = -(-left // stride)


def _ofa_stage(stride: int, width: int, *, squeeze: bool = False, activation: Activation = "relu") -> StageSpec:
    return StageSpec(stride, (2, 3, 4), (width,), (3, 5, 7), (3, 4, 6), squeeze, activation)


MOBILE_CNN: Mapping[str, CNNSpec] = {
    # 28 x 28 grey images: at most 0.3 M parameters, at least 1e8 architectures, MACs spanning at least 10 x.
    "tiny": CNNSpec(
        stem=16,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1, 2), width=(12, 16), kernel=(3, 5), expand=(2, 3, 4)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(16, 24, 32), kernel=(3, 5), expand=(2, 3, 4)),
            StageSpec(stride=2, depth=(1, 2, 3, 4), width=(48, 64, 80), kernel=(3, 5), expand=(2, 3, 4)),
        ),
        head=128,
    ),
    # MobileNetV2's size (arXiv 1801.04381) for colour images of 224 pixels; widths are multiples of 8, as runtimes like.
    "mobile": CNNSpec(
        stem=32,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1,), width=(8, 16), kernel=(3,), expand=(1,)),
            StageSpec(stride=2, depth=(1, 2), width=(16, 24), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(24, 32), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(2, 3, 4), width=(48, 64), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=1, depth=(1, 2, 3), width=(64, 96), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(112, 160), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=1, depth=(1,), width=(224, 320), kernel=(3, 5, 7), expand=(3, 4, 6)),
        ),
        head=1280,
    ),
    # 8 x 8 grey images: the stem keeps the resolution, and its first stage needs no wide kernel. The smallest network
    # is small enough to be worse, though the digits are easy.
    "digits": CNNSpec(
        stem=8,
        stem_stride=1,
        stages=(
            StageSpec(stride=1, depth=(1, 2, 3), width=(4, 8, 16), kernel=(3,), expand=(1, 2, 4)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(8, 16, 32), kernel=(3, 5), expand=(1, 2, 4)),
        ),
        head=64,
    ),
    # Once-for-All's space (arXiv 1908.09791) around MobileNetV3-large, for colour images of 224 pixels.
    "ofa": CNNSpec(
        stem=16,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1,), width=(16,), kernel=(3,), expand=(1,)),
            _ofa_stage(stride=2, width=24),
            _ofa_stage(stride=2, width=40, squeeze=True),
            _ofa_stage(stride=2, width=80, activation="hardswish"),
            _ofa_stage(stride=1, width=112, squeeze=True, activation="hardswish"),
            _ofa_stage(stride=2, width=160, squeeze=True, activation="hardswish"),
        ),
        head=960,
        activation="hardswish",
        mix=1280,
        resolution=tuple(range(128, 225, 4)),
    ),
    # MobileNetV3's ingredients for 28 x 28 grey images: as large as `tiny`.
    "tiny-v3": CNNSpec(
        stem=16,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1, 2), width=(16,), kernel=(3, 5), expand=(1, 2, 3)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(16, 24), kernel=(3, 5), expand=(2, 3, 4), squeeze=True),
            StageSpec(
                stride=2,
                depth=(1, 2, 3, 4),
                width=(40, 48, 56),
                kernel=(3, 5),
                expand=(2, 3, 4),
                squeeze=True,
                activation="hardswish",
            ),
        ),
        head=128,
        activation="hardswish",
        mix=128,
        resolution=(20, 24, 28),
    ),
}
