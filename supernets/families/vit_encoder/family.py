"""An elastic vision transformer laid out as ViT (arXiv 2010.11929): elastic depth and width, and heads and hidden channels
layer by layer (InstaTune, arXiv 2308.15609)."""

from __future__ import annotations

from typing import ClassVar

from supernets.families.shared.spec_family import ImageFamily, Numbers
from supernets.families.shared.vision_transformer import VisionTransformerFamily
from supernets.families.vit_encoder.spec import ViTEncoderSpec


class ViTEncoderFamily(VisionTransformerFamily):
    """The family of all networks that a `ViTEncoderSpec` spans.

    Departures from ViT: the class token's vector is part of its position's; no dropout.
    """

    name = "vit-encoder"
    class_token = True
    spec_type = ViTEncoderSpec
    numbers: ClassVar[Numbers] = {**ImageFamily.numbers, "epsilon": float}
    spec: ViTEncoderSpec

    def __init__(
        self, spec: ViTEncoderSpec, *, image_size: int, channels: int, n_classes: int, epsilon: float = 1e-12
    ) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes, epsilon=epsilon)
