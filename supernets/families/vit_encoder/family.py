"""An elastic vision transformer laid out as ViT (arXiv 2010.11929): elastic depth and width, and heads and hidden channels
layer by layer (InstaTune, arXiv 2308.15609)."""

from __future__ import annotations

from typing import ClassVar, cast

from torch import Tensor, nn

from supernets.families.described import ImageFamily, Numbers
from supernets.families.vision_transformer import VisionTransformerFamily
from supernets.families.vit_encoder.spec import ViTEncoderSpec


class Head(nn.Module):
    """The classes from the first token: (n, tokens, width) -> (n, classes)."""

    def __init__(self, width: int, n_classes: int, *, epsilon: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.norm(x[:, 0])))


class ViTEncoderFamily(VisionTransformerFamily):
    """The family of all networks that a `ViTEncoderSpec` spans.

    Departures from ViT: the class token's vector is part of its position's; no dropout.

    Args:
        epsilon: of the layer norms.
    """

    name = "vit-encoder"
    class_token = True
    head = Head
    spec_type = ViTEncoderSpec
    numbers: ClassVar[Numbers] = {**ImageFamily.numbers, "epsilon": float}
    spec: ViTEncoderSpec

    def __init__(
        self, spec: ViTEncoderSpec, *, image_size: int, channels: int, n_classes: int, epsilon: float = 1e-12
    ) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes, epsilon=epsilon)
