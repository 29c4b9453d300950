"""Dimensions of the elastic vision transformer laid out as ViT (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from supernets.families.spec import Number
from supernets.families.transformer_spec import LayersSpec, sixths


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
