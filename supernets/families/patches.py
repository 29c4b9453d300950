"""Images as tokens: what vision transformers begin with, and how the parts of one are put together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.axes import Dim
from supernets.errors import SpaceError
from supernets.families.layers import weighted


class PatchEmbedding(nn.Module):
    """Patches as tokens, each with its learned position: (n, c, h, w) -> (n, tokens, width).

    Args:
        class_token: whether a token that is no patch comes first; its learned vector is its position's, there being nothing
            else that the two are added to.
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
        """For live subnets: nothing restates the positions' shape."""

    def extra_repr(self) -> str:
        return f"class_token={self.class_token}"


def n_patches(image_size: int, patch: int) -> int:
    """How many patches an image has.

    Raises:
        SpaceError: they do not divide it.
    """
    if image_size % patch:
        raise SpaceError(
            f"patches of {patch} x {patch} pixels do not divide images of {image_size} x {image_size}; give a patch that "
            f"divides {image_size}, or another image size"
        )
    return int((image_size // patch) ** 2)


def patch_dims(channels: int, *, patch: int, tokens: int) -> dict[str, tuple[Dim, ...]]:
    """The dimensions of a `PatchEmbedding`, the module ``embedding`` of its network."""
    return {
        "embedding.positions": (1, tokens, "width"),
        **weighted("embedding.patches", "width", channels, patch, patch),
    }


def vision_transformer(
    embedding: PatchEmbedding, layers: Mapping[str, nn.Module], head: nn.Module, *, stack: str
) -> nn.Sequential:
    """The network of these parts: (n, c, h, w) -> (n, classes).

    Args:
        layers: by their numbers.
        stack: what the layers' module is called.
    """
    layered = nn.Sequential(OrderedDict(layers))
    return nn.Sequential(OrderedDict([("embedding", embedding), (stack, layered), ("head", head)]))
