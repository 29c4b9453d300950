"""Dimensions that the specs of detectors and segmenters have in common: backbone, feature pyramid and head (no torch)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import Annotated

from supernets.errors import DimensionError, SpaceError
from supernets.families.convolutional.convolutional_spec import Activation, Channels, Depth, Stride, Width
from supernets.families.convolutional.mobile_cnn_spec import StageSpec
from supernets.families.convolutional.resnet_spec import BottleneckStage
from supernets.families.shared.spec import Number, Options, Spec

Kernel = Annotated[tuple[int, ...], Options(31)]
_MAX_LEVELS = 6


@dataclass(frozen=True)
class PyramidSpec(Spec):
    """A backbone, the feature pyramid over its last stages, and the convolutions of a head.

    Attributes:
        stem: Output channels of the first convolution.
        stem_stride: Stride of the first convolution.
        stages: Stages of inverted residuals, as those of the family mobile-cnn.
        bottlenecks: Stages of bottlenecks in their place, as those of the family resnet.
        levels: Number of levels of the pyramid. They read the last stage of each of the coarsest strides.
        neck_width: Channels of all levels.
        neck_depth: Numbers of inverted residuals of a level after it is joined with the next coarser one.
        neck_kernel: Sides of their depthwise convolutions; odd.
        neck_expand: Ratios of their hidden channels to those of the level.
        head_width: Channels of the head's convolutions.
        head_depth: Numbers of the head's layers, each a depthwise and a 1x1 convolution.
        head_kernel: Sides of the head's depthwise convolutions, the same for all layers; odd.
        activation: Activation of the stem, the pyramid and the head.
    """

    stem: Channels
    stem_stride: Stride
    levels: Annotated[int, Number(_MAX_LEVELS, "a number of levels")]
    neck_width: Width
    neck_depth: Depth
    neck_kernel: Kernel
    neck_expand: Annotated[tuple[int, ...], Options(16)]
    head_width: Width
    head_depth: Depth
    head_kernel: Kernel
    stages: tuple[StageSpec, ...] | None = field(default=None, kw_only=True)
    bottlenecks: tuple[BottleneckStage, ...] | None = field(default=None, kw_only=True)
    activation: Activation = field(default="relu", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stages is None and self.bottlenecks is None:
            raise DimensionError("stages", "is missing; give it or bottlenecks", code="space.missing-dimension")
        if self.stages is not None and self.bottlenecks is not None:
            raise DimensionError("bottlenecks", "stand in place of stages, which are given, too; remove one of them")
        for name in ("neck_kernel", "head_kernel"):
            if even := [side for side in getattr(self, name) if side % 2 == 0]:
                raise DimensionError(name, f"expected odd sides, for equal padding on both sides; got {even[0]}")
        if self.levels > (n_strides := len(dict(self._stage_by_stride))):
            raise DimensionError("levels", f"the stages have {n_strides} different strides; got {self.levels} levels")

    @property
    def backbone(self) -> tuple[StageSpec, ...] | tuple[BottleneckStage, ...]:
        """The stages, of either kind of block."""
        return self.stages or self.bottlenecks or ()

    @property
    def _stage_by_stride(self) -> dict[int, int]:
        """The index of the last stage of each stride of the stages' outputs, by ascending stride."""
        strides = accumulate((stage.stride for stage in self.backbone), mul, initial=self.stem_stride)
        return {stride: s for s, stride in enumerate(list(strides)[1:])}

    @property
    def level_stages(self) -> tuple[int, ...]:
        """The index of the stage that each level reads, finest first."""
        return tuple(self._stage_by_stride.values())[-self.levels :]

    @property
    def strides(self) -> tuple[int, ...]:
        """The pixels of the image between neighbouring places of each level, finest first."""
        return tuple(self._stage_by_stride)[-self.levels :]

    def check_side(self, side: int) -> None:
        """Raises `SpaceError` unless the coarsest stride divides the side.

        Args:
            side: Height and width of the square images, in pixels.
        """
        if side % self.strides[-1]:
            nearest = max(1, round(side / self.strides[-1])) * self.strides[-1]
            problem = f"images of {side} pixels do not fit a pyramid whose coarsest stride is {self.strides[-1]}"
            raise SpaceError(f"{problem}; use a multiple of it, e.g. {nearest}")


TINY_STAGES = (
    StageSpec(stride=2, depth=(1, 2), width=(16, 24), kernel=(3, 5), expand=(1, 2, 3)),
    StageSpec(stride=2, depth=(1, 2, 3), width=(24, 32, 48), kernel=(3, 5), expand=(2, 3, 4)),
    StageSpec(stride=2, depth=(1, 2, 3, 4), width=(48, 64, 96), kernel=(3, 5), expand=(2, 3, 4)),
)
"""Backbone of presets for images of 96 to 160 pixels."""
TINY_BOTTLENECKS = (
    BottleneckStage(stride=2, depth=(1, 2), width=(16, 32), expand=(0.5, 1)),
    BottleneckStage(stride=2, depth=(1, 2, 3), width=(32, 48, 64), expand=(0.25, 0.5)),
    BottleneckStage(stride=2, depth=(1, 2, 3), width=(64, 96, 128), expand=(0.25, 0.5)),
)
"""The same with the blocks of a ResNet."""
MOBILE_STAGES = (
    StageSpec(stride=2, depth=(1, 2), width=(16, 24), kernel=(3, 5), expand=(2, 3, 4)),
    StageSpec(stride=2, depth=(1, 2, 3), width=(24, 32, 40), kernel=(3, 5), expand=(3, 4, 6)),
    StageSpec(stride=2, depth=(2, 3, 4), width=(48, 64, 80), kernel=(3, 5), expand=(3, 4, 6)),
    StageSpec(stride=1, depth=(1, 2, 3), width=(64, 96, 112), kernel=(3, 5), expand=(3, 4, 6)),
    StageSpec(stride=2, depth=(1, 2, 3), width=(96, 128, 160), kernel=(3, 5), expand=(3, 4, 6)),
)
"""Backbone of presets for colour images of 320 pixels; widths are multiples of 8, as runtimes like."""
