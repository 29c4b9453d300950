"""Dimensions of the elastic encoder of sentences (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

from supernets.families.transformer_spec import LayersSpec, sixths


@dataclass(frozen=True)
class EncoderSpec(LayersSpec):
    """A whole space of the family."""


def space_within(*, head_size: int, depth: int, width: int, heads: int, hidden: int) -> EncoderSpec:
    """InstaTune's space for BERT-base, in proportion, within a pretrained network of these sizes.

    It has half of the layers or more, half to all of the heads in steps of a sixth, and a third, two thirds or all of the
    hidden channels; the width stays. Smaller depths keep layers spread over all.
    """
    return EncoderSpec(
        head_size,
        depth=tuple(range(max(1, depth // 2), depth + 1)),
        width=(width,),
        heads=sixths(heads, (3, 4, 5, 6)),
        hidden=sixths(hidden, (2, 4, 6)),
        kept="spread",
    )
