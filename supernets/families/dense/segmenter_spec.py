"""Dimensions of the elastic segmenter (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from supernets.families.dense.pyramid_spec import MOBILE_STAGES, TINY_BOTTLENECKS, TINY_STAGES, PyramidSpec


@dataclass(frozen=True)
class SegmenterSpec(PyramidSpec):
    """A whole space of segmenters, whose head reads the finest level."""


SEGMENTER: Mapping[str, SegmenterSpec] = {
    # Images of 96 to 160 pixels.
    "tiny": SegmenterSpec(
        stem=16,
        stem_stride=2,
        stages=TINY_STAGES,
        levels=3,
        neck_width=(16, 24, 32, 48),
        neck_depth=(1, 2),
        neck_kernel=(3, 5),
        neck_expand=(1, 2),
        head_width=(16, 24, 32, 48),
        head_depth=(1, 2),
        head_kernel=(3, 5),
    ),
    # As large as `tiny`, with the blocks of a ResNet.
    "tiny-resnet": SegmenterSpec(
        stem=16,
        stem_stride=2,
        bottlenecks=TINY_BOTTLENECKS,
        levels=3,
        neck_width=(16, 24, 32, 48),
        neck_depth=(1, 2),
        neck_kernel=(3, 5),
        neck_expand=(1, 2),
        head_width=(16, 24, 32, 48),
        head_depth=(1, 2),
        head_kernel=(3, 5),
    ),
    # Colour images of 320 pixels; widths are multiples of 8, as runtimes like.
    "mobile": SegmenterSpec(
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
