"""Named spaces of the family vit-encoder (no torch)."""

from __future__ import annotations

from collections.abc import Mapping

from supernets.families.vit_encoder.spec import ViTEncoderSpec

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
