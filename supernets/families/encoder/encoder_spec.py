"""Dimensions of the elastic encoder of sentences (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from supernets.families.shared.transformer_spec import LayersSpec, sixths


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


ENCODER: Mapping[str, EncoderSpec] = {
    # For thousands of sentences and random weights: a CPU trains it in minutes. Its layers are normalised after their skips,
    # and need lower learning rates than vit's: after four epochs of 4,000 sentences (subjectivity) by the sandwich rule, the
    # largest network had an accuracy of 90 % at a peak of 0.0005, 83 % at 0.001, and 57 % at 0.002, which suffices alone.
    "tiny": EncoderSpec(
        head_size=16, depth=(1, 2, 3, 4), width=(64, 96, 128), heads=(2, 4, 6, 8), hidden=(64, 128, 256, 512)
    ),
    # InstaTune's space around BERT-base (Sarah et al. 2023, arXiv 2308.15609, table 1); dropped layers are spread over all,
    # which costs pretrained networks less.
    "instatune": EncoderSpec(
        head_size=64,
        depth=(6, 7, 8, 9, 10, 11, 12),
        width=(768,),
        heads=(6, 8, 10, 12),
        hidden=(1024, 2048, 3072),
        kept="spread",
    ),
    # The same in proportion, around MiniLM of six layers (arXiv 2002.10957).
    "minilm-l6": EncoderSpec(
        head_size=32, depth=(3, 4, 5, 6), width=(384,), heads=(6, 8, 10, 12), hidden=(512, 1024, 1536), kept="spread"
    ),
}
