"""Dimensions of the elastic vision transformers, vit and vit-encoder (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Self

from supernets.errors import DimensionError
from supernets.families.shared.spec import Number, Options, Ratios, check_distinct
from supernets.families.shared.transformer_spec import ExpertsSpec, LayersSpec, sixths


@dataclass(frozen=True)
class ViTSpec(ExpertsSpec):
    """A whole space of the family vit, with the options of its elastic dimensions, each smallest first.

    Depth and width are chosen once for the network; heads and the MLP's ratio anew for each block, from the same options.
    Queries, keys and values of a block have heads x head_size channels for every width, as in AutoFormer (Chen et al. 2021,
    arXiv 2107.00651), so every width can be combined with every number of heads.

    Attributes:
        patch: side of a patch in pixels.
        head_size: channels of a head; `divided_head_size` gives the usual one.
        depth: numbers of blocks.
        width: channels of a token.
        heads: numbers of heads of a block's attention.
        mlp: ratios of a block's hidden channels to the width; no two may give the same number of channels.
    """

    patch: Annotated[int, Number(256, "a number of pixels")]
    head_size: Annotated[int, Number(512, "a number of channels")]
    depth: Annotated[tuple[int, ...], Options(64)]
    width: Annotated[tuple[int, ...], Options(4096)]
    heads: Annotated[tuple[int, ...], Options(64)]
    mlp: Annotated[tuple[float, ...], Ratios(16)]

    def __post_init__(self) -> None:
        super().__post_init__()
        for width in self.width:
            check_distinct("mlp", self.mlp, width, partial(hidden_channels, width=width))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """See `Spec.from_values`; a missing head size is the largest width divided among the largest number of heads."""
        if "head_size" in values:
            return super().from_values(values)
        spec = super().from_values({**values, "head_size": 1})  # reports errors in the lists themselves first
        return replace(spec, head_size=divided_head_size(spec.width[-1], spec.heads[-1]))


def hidden_channels(ratio: float, width: int) -> int:
    """Hidden channels of an MLP of this ratio to the width."""
    return max(1, round(ratio * width))


def divided_head_size(width: int, heads: int) -> int:
    """The channels of each head if the heads divide the width among them, as in most transformers.

    Raises:
        DimensionError: they do not divide it.
    """
    if width % heads:
        raise DimensionError(
            "heads",
            f"{heads} heads do not divide a width of {width}; give a number of heads that does, or head_size, the "
            "channels of a head for every width",
        )
    return width // heads


VIT: Mapping[str, ViTSpec] = {
    # 28 x 28 grey images (49 tokens): at most 0.5 M parameters, more than 10^7 architectures, MACs spanning at least 10 x;
    # all channels are multiples of 16, as vectors of CPUs are.
    "tiny": ViTSpec(
        patch=4, head_size=16, depth=(3, 4, 5, 6), width=(48, 64, 80), heads=(2, 3, 4, 5), mlp=(1, 2, 3, 4)
    ),
    # 8 x 8 grey images (16 tokens).
    "digits": ViTSpec(patch=2, head_size=8, depth=(1, 2, 3), width=(16, 24, 32), heads=(1, 2, 4), mlp=(1, 2, 4)),
    # AutoFormer's smallest search space (Chen et al. 2021, arXiv 2107.00651, table 1), for colour images of 224 pixels.
    "autoformer-tiny": ViTSpec(
        patch=16, head_size=64, depth=(12, 13, 14), width=(192, 216, 240), heads=(3, 4), mlp=(3.5, 4)
    ),
}


@dataclass(frozen=True)
class ViTEncoderSpec(LayersSpec):
    """A whole space of the family vit-encoder, which is laid out as ViT.

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
