"""Base of the vision transformers: images as tokens of patches, layers, and a head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.axes import Dim
from supernets.errors import SpaceError
from supernets.families.described import ImageFamily
from supernets.families.layers import weighted
from supernets.families.transformer import PreNormLayer, TransformerFamily
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
        """For live subnets: no attribute repeats the positions' shape."""

    def extra_repr(self) -> str:
        return f"class_token={self.class_token}"


class VisionTransformerFamily(TransformerFamily, ImageFamily):
    """A space of transformers for the patches of square images.

    Args:
        spec: with the field ``patch`` beside those of all transformers.

    Raises:
        SpaceError: the patches do not divide the images.
    """

    spec: Any
    class_token: ClassVar[bool]
    head: ClassVar[Callable[..., nn.Module]]
    """Makes the head of a width, a number of classes and an `epsilon`; it has a layer norm and a classifier."""

    def __init__(self, spec: Any, *, image_size: int, channels: int, n_classes: int, epsilon: float) -> None:
        ImageFamily.__init__(self, spec, image_size=image_size, channels=channels, n_classes=n_classes)
        self.epsilon = epsilon
        if image_size % spec.patch:
            raise SpaceError(
                f"patches of {spec.patch} x {spec.patch} pixels do not divide images of {image_size} x {image_size}; give a "
                f"patch that divides {image_size}, or another image size"
            )
        self.tokens = (image_size // spec.patch) ** 2 + self.class_token
        TransformerFamily.__init__(self, spec)

    def embedding_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        patch = self.spec.patch
        positions: dict[str, tuple[Dim, ...]] = {"embedding.positions": (1, self.tokens, "width")}
        return positions | weighted("embedding.patches", "width", self.channels, patch, patch)

    def head_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return weighted("head.norm", "width") | weighted("head.classifier", self.n_classes, "width")

    def build(self, architecture: Architecture) -> nn.Module:
        width = self.width(architecture)
        layers = nn.Sequential(OrderedDict(self.stack(architecture, PreNormLayer, epsilon=self.epsilon)))
        embedding = PatchEmbedding(
            self.channels, width, patch=self.spec.patch, tokens=self.tokens, class_token=self.class_token
        )
        head = type(self).head(width, self.n_classes, epsilon=self.epsilon)
        return nn.Sequential(OrderedDict([("embedding", embedding), (f"{self.layer}s", layers), ("head", head)]))
