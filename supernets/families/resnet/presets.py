"""Named spaces of the family resnet (no torch)."""

from __future__ import annotations

from collections.abc import Mapping

from supernets.families.resnet.spec import BottleneckStage, ResNetSpec

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
