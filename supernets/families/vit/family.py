"""An elastic vision transformer: elastic depth and width, and heads and hidden channels block by block (arXiv 2107.00651)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from torch import Tensor, nn

from supernets.axes import Dim
from supernets.families.described import ImageFamily
from supernets.families.layers import weighted
from supernets.families.patches import PatchEmbedding, n_patches, patch_dims, vision_transformer
from supernets.families.transformer import PreNormLayer, TransformerFamily
from supernets.families.vit.spec import ViTSpec, hidden_channels
from supernets.space import Architecture, Option

_EPSILON = 1e-5
"""Of the layer norms."""


class Head(nn.Module):
    """The classes of the tokens' mean: (n, tokens, width) -> (n, classes)."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.norm(x).mean(dim=1)))


class ViTFamily(TransformerFamily, ImageFamily):
    """The family of all networks that a `ViTSpec` spans; a block's hidden channels are its ratio times the network's width.

    Departures from AutoFormer: absolute positions alone, no relative ones; the mean of the tokens in place of a class token;
    initial weights scaled to the layers' inputs, and larger initial positions.

    Raises:
        SpaceError: the patches do not divide the images.
    """

    name = "vit"
    layer: ClassVar[str] = "block"
    elastic = ("heads", "mlp")
    spec_type = ViTSpec
    spec: ViTSpec

    def __init__(self, spec: ViTSpec, *, image_size: int, channels: int, n_classes: int) -> None:
        ImageFamily.__init__(self, spec, image_size=image_size, channels=channels, n_classes=n_classes)
        self._tokens = n_patches(image_size, spec.patch)
        TransformerFamily.__init__(self, spec)

    def hidden(self, chosen: Mapping[str, Option], width: int) -> int:
        return hidden_channels(cast(float, chosen["mlp"]), width)

    def embedding_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return patch_dims(self.channels, patch=self.spec.patch, tokens=self._tokens)

    def head_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return weighted("head.norm", "width") | weighted("head.classifier", self.n_classes, "width")

    def build(self, architecture: Architecture) -> nn.Module:
        width = self.width(architecture)
        blocks = self.stack(architecture, PreNormLayer, epsilon=_EPSILON)
        embedding = PatchEmbedding(self.channels, width, patch=self.spec.patch, tokens=self._tokens, class_token=False)
        return vision_transformer(embedding, blocks, Head(width, self.n_classes), stack="blocks")
