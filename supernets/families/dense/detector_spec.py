"""Dimensions of the elastic detector (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supernets.families.convolutional.mobile_cnn_spec import StageSpec
from supernets.families.convolutional.resnet_spec import BottleneckStage
from supernets.families.dense.pyramid_spec import PyramidSpec


@dataclass(frozen=True)
class DetectorSpec(PyramidSpec):
    """A whole space of detectors.

    Attributes:
        head_shared: Whether all levels have the same convolutions in the head, as in FCOS (arXiv 1904.01355); their batch norms
            are always each level's own.
    """

    head_shared: bool = field(default=True, kw_only=True)


DETECTOR: Mapping[str, DetectorSpec] = {
    # Images of 96 to 160 pixels.
    "tiny": DetectorSpec(
        stem=16,
        stem_stride=2,
        stages=(
            StageSpec(stride=2, depth=(1, 2), width=(16, 24), kernel=(3, 5), expand=(1, 2, 3)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(24, 32, 48), kernel=(3, 5), expand=(2, 3, 4)),
            StageSpec(stride=2, depth=(1, 2, 3, 4), width=(48, 64, 96), kernel=(3, 5), expand=(2, 3, 4)),
        ),
        levels=2,
        neck_width=(24, 32, 48, 64),
        neck_depth=(1, 2),
        neck_kernel=(3, 5),
        neck_expand=(1, 2),
        head_width=(24, 32, 48, 64),
        head_depth=(1, 2, 3),
        head_kernel=(3, 5),
    ),
    # As large as `tiny`, with the blocks of a ResNet.
    "tiny-resnet": DetectorSpec(
        stem=16,
        stem_stride=2,
        bottlenecks=(
            BottleneckStage(stride=2, depth=(1, 2), width=(16, 32), expand=(0.5, 1)),
            BottleneckStage(stride=2, depth=(1, 2, 3), width=(32, 48, 64), expand=(0.25, 0.5)),
            BottleneckStage(stride=2, depth=(1, 2, 3), width=(64, 96, 128), expand=(0.25, 0.5)),
        ),
        levels=2,
        neck_width=(24, 32, 48, 64),
        neck_depth=(1, 2),
        neck_kernel=(3, 5),
        neck_expand=(1, 2),
        head_width=(24, 32, 48, 64),
        head_depth=(1, 2, 3),
        head_kernel=(3, 5),
    ),
    # Colour images of 320 pixels; widths are multiples of 8, as runtimes like.
    "mobile": DetectorSpec(
        stem=16,
        stem_stride=2,
        stages=(
            StageSpec(stride=2, depth=(1, 2), width=(16, 24), kernel=(3, 5), expand=(2, 3, 4)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(24, 32, 40), kernel=(3, 5), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(2, 3, 4), width=(48, 64, 80), kernel=(3, 5), expand=(3, 4, 6)),
            StageSpec(stride=1, depth=(1, 2, 3), width=(64, 96, 112), kernel=(3, 5), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(96, 128, 160), kernel=(3, 5), expand=(3, 4, 6)),
        ),
        levels=3,
        neck_width=(48, 64, 96),
        neck_depth=(1, 2),
        neck_kernel=(3, 5),
        neck_expand=(1, 2),
        head_width=(48, 64, 96),
        head_depth=(1, 2, 3),
        head_kernel=(3, 5),
    ),
}
