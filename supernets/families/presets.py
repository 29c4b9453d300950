"""Named spaces of each family (no torch)."""

from __future__ import annotations

from collections.abc import Mapping

from supernets.families.spec import CNNSpec, StageSpec
from supernets.families.vit_spec import ViTSpec

MOBILE_CNN: Mapping[str, CNNSpec] = {
    # 28 x 28 grey images: at most 0.3 M parameters, at least 1e8 architectures, MACs spanning at least 10 x.
    "tiny": CNNSpec(
        stem=16,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1, 2), width=(12, 16), kernel=(3, 5), expand=(2, 3, 4)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(16, 24, 32), kernel=(3, 5), expand=(2, 3, 4)),
            StageSpec(stride=2, depth=(1, 2, 3, 4), width=(48, 64, 80), kernel=(3, 5), expand=(2, 3, 4)),
        ),
        head=128,
    ),
    # MobileNetV2's size (arXiv 1801.04381) for colour images of 224 pixels; widths are multiples of 8, as runtimes like.
    "mobile": CNNSpec(
        stem=32,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1,), width=(8, 16), kernel=(3,), expand=(1,)),
            StageSpec(stride=2, depth=(1, 2), width=(16, 24), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(24, 32), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(2, 3, 4), width=(48, 64), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=1, depth=(1, 2, 3), width=(64, 96), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(112, 160), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=1, depth=(1,), width=(224, 320), kernel=(3, 5, 7), expand=(3, 4, 6)),
        ),
        head=1280,
    ),
    # 8 x 8 grey images: the stem keeps the resolution, and its first stage needs no wide kernel. The smallest network
    # is small enough to be worse, though the digits are easy.
    "digits": CNNSpec(
        stem=8,
        stem_stride=1,
        stages=(
            StageSpec(stride=1, depth=(1, 2, 3), width=(4, 8, 16), kernel=(3,), expand=(1, 2, 4)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(8, 16, 32), kernel=(3, 5), expand=(1, 2, 4)),
        ),
        head=64,
    ),
}
"""Presets of the family ``mobile-cnn``."""

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
"""Presets of the family ``vit``."""

PRESETS: Mapping[str, Mapping[str, CNNSpec] | Mapping[str, ViTSpec]] = {"mobile-cnn": MOBILE_CNN, "vit": VIT}
"""Presets by the name of the family."""
