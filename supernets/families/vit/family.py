"""An elastic vision transformer: elastic depth and width, and heads and hidden channels block by block (arXiv 2107.00651)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from supernets.families.shared.vision_transformer import VisionTransformerFamily
from supernets.families.vit.spec import ViTSpec, hidden_channels
from supernets.space import Architecture


class ViTFamily(VisionTransformerFamily):
    """The family of all networks that a `ViTSpec` spans; a block's hidden channels are its ratio times the network's width.

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
