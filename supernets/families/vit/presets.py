"""Named spaces of the family vit (no torch)."""

from __future__ import annotations

from collections.abc import Mapping

from supernets.families.vit.spec import ViTSpec

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
