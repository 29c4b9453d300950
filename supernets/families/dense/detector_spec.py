"""Dimensions of the elastic detector (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supernets.families.dense.pyramid_spec import MOBILE_STAGES, TINY_BOTTLENECKS, TINY_STAGES, PyramidSpec


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
        stages=TINY_STAGES,
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
        bottlenecks=TINY_BOTTLENECKS,
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
        stages=MOBILE_STAGES,
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
