"""An elastic vision transformer: elastic depth and width, and heads and hidden channels block by block (arXiv 2107.00651)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.axes import Axes, Axis, Dim
from supernets.errors import SpaceError
from supernets.families.images import ImageFamily
from supernets.families.vit_spec import ViTSpec, hidden_channels
from supernets.space import Architecture, Choice, SearchSpace

_INITIAL_STD, _OF_WIDTH = 0.02, 768
"""Of the weights of linear layers in ViT-Base (Dosovitskiy et al. 2020, arXiv 2010.11929), and its width."""


class Embedding(nn.Module):
    """Patches as tokens, each with its learned position: (n, c, h, w) -> (n, tokens, width)."""

    def __init__(self, channels: int, width: int, *, patch: int, tokens: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.patches(x).flatten(2).transpose(1, 2)) + self.positions

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        """For live subnets: nothing restates the positions' shape."""


class Attention(nn.Module):
    """Self-attention of (n, tokens, width), of as many heads as its `qkv` has channels for.

    It keeps no number of heads that a live subnet's smaller tensors would have to correct.
    """

    def __init__(self, width: int, heads: int, *, head_size: int) -> None:
        super().__init__()
        self.head_size = head_size
        self.qkv = nn.Linear(width, 3 * heads * head_size)
        self.project = nn.Linear(heads * head_size, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        heads = self.qkv.out_features // (3 * self.head_size)
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (part.reshape(n, tokens, heads, self.head_size).transpose(1, 2) for part in (query, key, value))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.project(mixed.transpose(1, 2).flatten(2)))

    def extra_repr(self) -> str:
        return f"head_size={self.head_size}"


class Block(nn.Module):
    """Attention, then an MLP, each on normalised tokens and with a skip."""

    def __init__(self, width: int, *, heads: int, head_size: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_size=head_size)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + cast(Tensor, self.mlp(self.norm2(x)))


class Head(nn.Module):
    """The classes of the tokens' mean: (n, tokens, width) -> (n, classes)."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.norm(x).mean(dim=1)))


class ViT(nn.Module):
    """Embedding, blocks and head: (n, c, h, w) -> (n, classes)."""

    def __init__(self, embedding: Embedding, blocks: list[Block], head: Head) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.Sequential(*blocks)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.blocks(self.embedding(x))))


class ViTFamily(ImageFamily):
    """The family of all networks that a `ViTSpec` spans.

    The depth keeps the first blocks. A block's first heads are shared, and the first hidden channels of its MLP, which are
    its ratio times the network's width.

    Departures from AutoFormer: absolute positions alone, no relative ones; the mean of the tokens in place of a class token;
    initial weights scaled to the layers' inputs, and larger initial positions.

    Raises:
        SpaceError: the patches do not divide the images.
    """

    name = "vit"
    spec_type = ViTSpec
    spec: ViTSpec
    geometry: tuple[str, ...] = ()

    def __init__(self, spec: ViTSpec, *, image_size: int, channels: int, n_classes: int) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes)
        if image_size % spec.patch:
            raise SpaceError(
                f"patches of {spec.patch} x {spec.patch} pixels do not divide images of {image_size} x "
                f"{image_size}; give a patch that divides {image_size}, or another image size"
            )
        self._tokens = (image_size // spec.patch) ** 2
        self.space = SearchSpace(_choices(spec))
        self.axes: Axes = {axis.name: axis for axis in self._axes()}
        self._dims = self._make_dims()
        blocks = [f"blocks.{b}" for b in range(spec.depth[-1])]
        self.blocks: tuple[str, ...] = ("embedding", *blocks, "head")
        self.attention: Mapping[str, Dim] = {
            f"blocks.{b}.attention": (f"block{b}.heads", spec.head_size) for b in range(spec.depth[-1])
        }

    def _axes(self) -> list[Axis]:
        spec = self.spec
        axes = [Axis("width", spec.width[-1])]
        for b in range(spec.depth[-1]):
            axes.append(Axis(f"block{b}.heads", spec.heads[-1]))
            axes.append(Axis(f"block{b}.hidden", hidden_channels(spec.mlp[-1], spec.width[-1])))
        return axes

    def _make_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        dims: dict[str, tuple[Dim, ...]] = {}

        def weighted(prefix: str, outputs: Dim, *inputs: Dim) -> None:
            dims[f"{prefix}.weight"], dims[f"{prefix}.bias"] = (outputs, *inputs), (outputs,)

        patch, head_size = self.spec.patch, self.spec.head_size
        dims["embedding.positions"] = (1, self._tokens, "width")
        weighted("embedding.patches", "width", self.channels, patch, patch)
        for b in range(self.spec.depth[-1]):
            block, heads, hidden = f"blocks.{b}", f"block{b}.heads", f"block{b}.hidden"
            weighted(f"{block}.norm1", "width")
            weighted(f"{block}.attention.qkv", (3, heads, head_size), "width")
            weighted(f"{block}.attention.project", "width", (heads, head_size))
            weighted(f"{block}.norm2", "width")
            weighted(f"{block}.mlp.0", hidden, "width")
            weighted(f"{block}.mlp.2", "width", hidden)
        weighted("head.norm", "width")
        weighted("head.classifier", self.n_classes, "width")
        return dims

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return self._dims

    def template(self, like: Architecture | None = None) -> nn.Module:
        return self.initialised(self.build(self.space.largest))

    def initialised(self, network: nn.Module) -> nn.Module:
        for name, parameter in network.named_parameters():
            if name.endswith("positions") or (name.endswith("weight") and parameter.ndim == 2):
                # Scaled to the inputs: at 0.02, networks of some tens of channels learn several times more slowly.
                nn.init.trunc_normal_(parameter, std=_INITIAL_STD * (_OF_WIDTH / parameter.shape[-1]) ** 0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        return network

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        values = self.space.values(architecture)
        width = cast(int, values["width"])
        sizes = {"width": width}
        for b in range(self.spec.depth[-1]):
            # A block that the depth drops gets the smallest options: its sizes are read by nobody.
            sizes[f"block{b}.heads"] = cast(int, values.get(f"block{b}.heads", self.spec.heads[0]))
            ratio = cast(float, values.get(f"block{b}.mlp", self.spec.mlp[0]))
            sizes[f"block{b}.hidden"] = hidden_channels(ratio, width)
        return sizes

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        depth = cast(int, self.space.values(architecture)["depth"])
        return frozenset(f"blocks.{b}" for b in range(depth, self.spec.depth[-1]))

    def build(self, architecture: Architecture) -> nn.Module:
        values = self.space.values(architecture)
        width = cast(int, values["width"])
        blocks = [
            Block(
                width,
                heads=cast(int, values[f"block{b}.heads"]),
                head_size=self.spec.head_size,
                hidden=hidden_channels(cast(float, values[f"block{b}.mlp"]), width),
            )
            for b in range(cast(int, values["depth"]))
        ]
        embedding = Embedding(self.channels, width, patch=self.spec.patch, tokens=self._tokens)
        return ViT(embedding, blocks, Head(width, self.n_classes))


def _choices(spec: ViTSpec) -> list[Choice]:
    choices = [Choice("depth", spec.depth), Choice("width", spec.width)]
    for b in range(spec.depth[-1]):
        level = next(i for i, depth in enumerate(spec.depth) if depth > b)
        requires = ("depth", level) if level > 0 else None
        choices.append(Choice(f"block{b}.heads", spec.heads, requires))
        choices.append(Choice(f"block{b}.mlp", spec.mlp, requires))
    return choices
