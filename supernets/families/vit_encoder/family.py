"""An elastic vision transformer laid out as ViT (arXiv 2010.11929): elastic depth and width, and heads and hidden channels
layer by layer (InstaTune, arXiv 2308.15609)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from torch import Tensor, nn

from supernets.axes import Dim
from supernets.families.described import ImageFamily, Numbers
from supernets.families.layers import weighted
from supernets.families.patches import PatchEmbedding, n_patches, patch_dims, vision_transformer
from supernets.families.transformer import PreNormLayer, TransformerFamily
from supernets.families.vit_encoder.spec import ViTEncoderSpec
from supernets.space import Architecture


class Head(nn.Module):
    """The classes, told from the first token: (n, tokens, width) -> (n, classes)."""

    def __init__(self, width: int, n_classes: int, *, epsilon: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.norm(x[:, 0])))


class ViTEncoderFamily(TransformerFamily, ImageFamily):
    """The family of all networks that a `ViTEncoderSpec` spans.

    Departures from ViT: the class token's vector is part of its position's; no dropout.

    Args:
        epsilon: of the layer norms.

    Raises:
        SpaceError: the patches do not divide the images.
    """

    name = "vit-encoder"
    spec_type = ViTEncoderSpec
    numbers: ClassVar[Numbers] = {**ImageFamily.numbers, "epsilon": float}
    spec: ViTEncoderSpec

    def __init__(
        self, spec: ViTEncoderSpec, *, image_size: int, channels: int, n_classes: int, epsilon: float = 1e-12
    ) -> None:
        ImageFamily.__init__(self, spec, image_size=image_size, channels=channels, n_classes=n_classes)
        self.epsilon = epsilon
        self.tokens = 1 + n_patches(image_size, spec.patch)
        TransformerFamily.__init__(self, spec)

    def embedding_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return patch_dims(self.channels, patch=self.spec.patch, tokens=self.tokens)

    def head_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return weighted("head.norm", "width") | weighted("head.classifier", self.n_classes, "width")

    def build(self, architecture: Architecture) -> nn.Module:
        width = self.width(architecture)
        layers = self.stack(architecture, PreNormLayer, epsilon=self.epsilon)
        embedding = PatchEmbedding(self.channels, width, patch=self.spec.patch, tokens=self.tokens, class_token=True)
        return vision_transformer(embedding, layers, Head(width, self.n_classes, epsilon=self.epsilon), stack="layers")
