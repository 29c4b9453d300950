"""Dimensions of the elastic vision transformer laid out as ViT (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from supernets.families.shared.spec import Number
from supernets.families.shared.transformer_spec import LayersSpec, sixths


@dataclass(frozen=True)
class ViTEncoderSpec(LayersSpec):
    """A whole space of the family.

    Attributes:
        patch: side of a patch in pixels.
    """

    patch: Annotated[int, Number(256, "a number of pixels")]


def vit_space_within(*, head_size: int, depth: int, width: int, heads: int, hidden: int, patch: int) -> ViTEncoderSpec:
    """InstaTune's space for ViT-B/16, in proportion, within a pretrained network of these sizes.

    It has eleven twelfths of the layers or more, half to all of the heads in steps of a sixth, and two thirds, five sixths or
    all of the hidden channels; the width stays. Smaller depths keep layers spread over all.
    """
    return ViTEncoderSpec(
        head_size,
        depth=tuple(range(max(1, depth * 11 // 12), depth + 1)),
        width=(width,),
        heads=sixths(heads, (3, 4, 5, 6)),
        hidden=sixths(hidden, (4, 5, 6)),
        kept="spread",
        patch=patch,
    )


VIT_ENCODER: Mapping[str, ViTEncoderSpec] = {
    # 28 x 28 grey images (50 tokens), as large as `vit`'s.
    "tiny": ViTEncoderSpec(
        head_size=16, depth=(3, 4, 5, 6), width=(48, 64, 80), heads=(2, 3, 4, 5), hidden=(64, 128, 192, 320), patch=4
    ),
    # 8 x 8 grey images (17 tokens).
    "digits": ViTEncoderSpec(
        head_size=8, depth=(1, 2, 3), width=(16, 24, 32), heads=(1, 2, 4), hidden=(16, 32, 64, 128), patch=2
    ),
    # InstaTune's space around ViT-B/16 (Sarah et al. 2023, arXiv 2308.15609, table 1), for colour images of 224 pixels.
    "instatune": ViTEncoderSpec(
        head_size=64,
        depth=(11, 12),
        width=(768,),
        heads=(6, 8, 10, 12),
        hidden=(2048, 2560, 3072),
        patch=16,
        kept="spread",
    ),
}
