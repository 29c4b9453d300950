"""The families of vision transformers, vit and vit-encoder: images as tokens of patches, layers, and a head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.errors import SpaceError
from supernets.families.shared.spec_family import ImageFamily, Numbers
from supernets.families.shared.transformer_family import PreNormLayer, TransformerFamily
from supernets.families.vision_transformer.vision_transformer_spec import ViTEncoderSpec, ViTSpec, hidden_channels
from supernets.space import Architecture


class PatchEmbedding(nn.Module):
    """Patches as tokens, each with its learned position: (n, c, h, w) -> (n, tokens, width).

    Args:
        class_token: whether a token that is no patch comes first; its position's vector is all that it consists of.
    """

    def __init__(self, channels: int, width: int, *, patch: int, tokens: int, class_token: bool) -> None:
        super().__init__()
        self.class_token = class_token
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = cast(Tensor, self.patches(x).flatten(2).transpose(1, 2))
        if self.class_token:
            tokens = functional.pad(tokens, (0, 0, 1, 0))
        return tokens + self.positions

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        """Does nothing for a live subnet: no attribute repeats the shape of the positions."""

    def extra_repr(self) -> str:
        return f"class_token={self.class_token}"


class Head(nn.Module):
    """The classes from the first token, or from the mean of all tokens: (n, tokens, width) -> (n, classes)."""

    def __init__(self, width: int, n_classes: int, *, epsilon: float, class_token: bool) -> None:
        super().__init__()
        self.class_token = class_token
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(x[:, 0]) if self.class_token else self.norm(x).mean(dim=1)
        return cast(Tensor, self.classifier(features))


class VisionTransformerFamily(TransformerFamily, ImageFamily):
    """A space of transformers for the patches of square images.

    Args:
        spec: A spec with the field ``patch`` beside those of all transformers.
        image_size: Side of an image in pixels.
        channels: Number of channels of an image.
        n_classes: Number of classes.
        epsilon: Term that layer norms add to the variance.

    Raises:
        SpaceError: the patches do not divide the images.
    """

    spec: Any
    class_token: ClassVar[bool]
    """True if a token that is no patch comes first, which the head classifies; else it classifies the mean of the tokens."""

    def __init__(self, spec: Any, *, image_size: int, channels: int, n_classes: int, epsilon: float) -> None:
        ImageFamily.__init__(self, spec, image_size=image_size, channels=channels, n_classes=n_classes)
        self.epsilon = epsilon
        if image_size % spec.patch:
            raise SpaceError(f"patches of {spec.patch} pixels do not divide images of {image_size}; change one of them")
        self.tokens = (image_size // spec.patch) ** 2 + self.class_token
        TransformerFamily.__init__(self, spec)

    def constructed(self) -> nn.Module:
        width = self.spec.width[-1]
        layers = nn.Sequential(OrderedDict(self.stacked(PreNormLayer, epsilon=self.epsilon)))
        patch, first = self.spec.patch, self.class_token
        embedding = PatchEmbedding(self.channels, width, patch=patch, tokens=self.tokens, class_token=first)
        head = Head(width, self.n_classes, epsilon=self.epsilon, class_token=first)
        return nn.Sequential(OrderedDict([("embedding", embedding), (f"{self.layer}s", layers), ("head", head)]))


class ViTFamily(VisionTransformerFamily):
    """The family of all networks that a `ViTSpec` spans, as AutoFormer (arXiv 2107.00651): elastic depth and width, and heads
    and hidden channels block by block; a block's hidden channels are its ratio times the network's width.

    Departures from AutoFormer: only absolute positions, no relative ones; the mean of the tokens in place of a class token;
    initial weights scaled to the layers' inputs, and larger initial positions.
    """

    name = "vit"
    layer: ClassVar[str] = "block"
    elastic = ("heads", "mlp")
    class_token = False
    spec_type = ViTSpec
    spec: ViTSpec

    def __init__(self, spec: ViTSpec, *, image_size: int, channels: int, n_classes: int) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes, epsilon=1e-5)

    @property
    def max_hidden(self) -> int:
        return hidden_channels(self.spec.mlp[-1], self.spec.width[-1])

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        sizes = dict(super().sizes(architecture))
        for layer in self.stacks[0].layers:
            sizes[f"{layer}.hidden"] = hidden_channels(sizes.pop(f"{layer}.mlp"), sizes["width"])
        return sizes


class ViTEncoderFamily(VisionTransformerFamily):
    """The family of all networks that a `ViTEncoderSpec` spans, laid out as ViT (arXiv 2010.11929): elastic depth and width,
    and heads and hidden channels layer by layer (InstaTune, arXiv 2308.15609).

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
