"""An elastic encoder of sentences, laid out as BERT (arXiv 1810.04805): elastic depth and width, and heads and hidden channels
layer by layer (InstaTune, arXiv 2308.15609)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.axes import Axes, Axis, Dim
from supernets.errors import CheckpointError, SpaceError
from supernets.families.encoder_spec import EncoderSpec
from supernets.families.options import check_number
from supernets.space import Architecture, Choice, SearchSpace
from supernets.tokens import attend, first_rows, padding_mask

_INITIAL_STD, _OF_WIDTH = 0.02, 768
"""Of the weights of linear layers in BERT-base, and its width."""
_LIMITS = {"vocabulary": 2**24, "positions": 2**16, "tokens": 2**16, "n_classes": 2**16}


class Embedding(nn.Module):
    """Tokens as vectors, each with its position's: (n, tokens) -> (n, tokens, width)."""

    def __init__(self, width: int, *, vocabulary: int, positions: int, epsilon: float) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(positions, width))
        self.norm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        return cast(Tensor, self.norm(self.words(ids) + first_rows(self.positions, ids)))

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        """For live subnets: nothing restates the positions' shape."""


class Attention(nn.Module):
    """Self-attention of (n, tokens, width) under a mask, of as many heads as its `qkv` has channels for."""

    def __init__(self, width: int, heads: int, *, head_size: int) -> None:
        super().__init__()
        self.head_size = head_size
        self.qkv = nn.Linear(width, 3 * heads * head_size)
        self.project = nn.Linear(heads * head_size, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        return cast(Tensor, self.project(attend(query, key, value, mask, self.head_size)))

    def extra_repr(self) -> str:
        return f"head_size={self.head_size}"


class Layer(nn.Module):
    """Attention, then an MLP, each with a skip and normalised after it."""

    def __init__(self, width: int, *, heads: int, head_size: int, hidden: int, epsilon: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, head_size=head_size)
        self.norm1 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.norm2 = nn.LayerNorm(width, eps=epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, mask))
        return cast(Tensor, self.norm2(x + self.mlp(x)))


class Head(nn.Module):
    """The classes, told from the first token: (n, tokens, width) -> (n, classes)."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.pool = nn.Linear(width, width)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(torch.tanh(self.pool(x[:, 0]))))


class Encoder(nn.Module):
    """Embedding, layers and head: token ids (n, tokens), padded at their ends, -> (n, classes).

    The mask is made of the ids, so that a network has one input.
    """

    def __init__(self, embedding: Embedding, layers: list[Layer], head: Head, *, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.embedding = embedding
        self.layers = nn.ModuleList(layers)
        self.head = head

    def forward(self, ids: Tensor) -> Tensor:
        mask = padding_mask(ids, self.padding)
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, mask)
        return cast(Tensor, self.head(x))

    def extra_repr(self) -> str:
        return f"padding={self.padding}"


class EncoderFamily:
    """The family of all networks that an `EncoderSpec` spans, for sentences of token ids.

    The depth keeps the first layers. A layer's first heads are shared, and the first hidden channels of its MLP.

    Departures from BERT: there is one type of tokens, whose embedding is part of the words'; no dropout.

    Args:
        vocabulary: number of different tokens.
        positions: the most tokens of a sentence.
        padding: the token that fills up short sentences.
        tokens: of the sentence that costs are counted for.
        epsilon: of the layer norms.

    Raises:
        SpaceError: a number is out of range, or the padding is no token.
    """

    name = "encoder"
    geometry: tuple[str, ...] = ()

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        vocabulary: int,
        positions: int,
        padding: int,
        tokens: int,
        n_classes: int,
        epsilon: float = 1e-12,
    ) -> None:
        sizes = {"vocabulary": vocabulary, "positions": positions, "tokens": tokens, "n_classes": n_classes}
        for name, value in sizes.items():
            check_number(name, value, _LIMITS[name])
        if not 0 <= padding < vocabulary:
            raise SpaceError(f"padding: expected a token from 0 to {vocabulary - 1}, got {padding}")
        if tokens > positions:
            raise SpaceError(f"tokens: sentences of {tokens} tokens, and the networks have {positions} positions")
        self.spec = spec
        self.vocabulary, self.positions, self.padding, self.tokens = vocabulary, positions, padding, tokens
        self.n_classes, self.epsilon = n_classes, epsilon
        self.space = SearchSpace(_choices(spec))
        self.axes: Axes = {axis.name: axis for axis in self._axes()}
        self._dims = self._make_dims()
        layers = [f"layers.{i}" for i in range(spec.depth[-1])]
        self.blocks: tuple[str, ...] = ("embedding", *layers, "head")
        self.attention: Mapping[str, Dim] = {
            f"layers.{i}.attention": (f"layer{i}.heads", spec.head_size) for i in range(spec.depth[-1])
        }

    def _axes(self) -> list[Axis]:
        axes = [Axis("width", self.spec.width[-1])]
        for i in range(self.spec.depth[-1]):
            axes.append(Axis(f"layer{i}.heads", self.spec.heads[-1]))
            axes.append(Axis(f"layer{i}.hidden", self.spec.hidden[-1]))
        return axes

    def _make_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        dims: dict[str, tuple[Dim, ...]] = {}

        def weighted(prefix: str, outputs: Dim, *inputs: Dim) -> None:
            dims[f"{prefix}.weight"], dims[f"{prefix}.bias"] = (outputs, *inputs), (outputs,)

        head_size = self.spec.head_size
        dims["embedding.words.weight"] = (self.vocabulary, "width")
        dims["embedding.positions"] = (self.positions, "width")
        weighted("embedding.norm", "width")
        for i in range(self.spec.depth[-1]):
            layer, heads, hidden = f"layers.{i}", f"layer{i}.heads", f"layer{i}.hidden"
            weighted(f"{layer}.attention.qkv", (3, heads, head_size), "width")
            weighted(f"{layer}.attention.project", "width", (heads, head_size))
            weighted(f"{layer}.norm1", "width")
            weighted(f"{layer}.mlp.0", hidden, "width")
            weighted(f"{layer}.mlp.2", "width", hidden)
            weighted(f"{layer}.norm2", "width")
        weighted("head.pool", "width", "width")
        weighted("head.classifier", self.n_classes, "width")
        return dims

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return self._dims

    def template(self, like: Architecture | None = None) -> nn.Module:
        return self.initialised(self.build(self.space.largest))

    def initialised(self, network: nn.Module) -> nn.Module:
        for name, parameter in network.named_parameters():
            if name.startswith("embedding.") and parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=_INITIAL_STD)
            elif name.endswith("weight") and parameter.ndim == 2:
                # Scaled to the inputs, as in the family vit: at 0.02, narrow networks learn several times more slowly.
                nn.init.trunc_normal_(parameter, std=_INITIAL_STD * (_OF_WIDTH / parameter.shape[-1]) ** 0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        return network

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        values = self.space.values(architecture)
        sizes = {"width": cast(int, values["width"])}
        for i in range(self.spec.depth[-1]):
            # A layer that the depth drops gets the smallest options: its sizes are read by nobody.
            sizes[f"layer{i}.heads"] = cast(int, values.get(f"layer{i}.heads", self.spec.heads[0]))
            sizes[f"layer{i}.hidden"] = cast(int, values.get(f"layer{i}.hidden", self.spec.hidden[0]))
        return sizes

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        depth = cast(int, self.space.values(architecture)["depth"])
        return frozenset(f"layers.{i}" for i in range(depth, self.spec.depth[-1]))

    def build(self, architecture: Architecture) -> nn.Module:
        values = self.space.values(architecture)
        width = cast(int, values["width"])
        layers = [
            Layer(
                width,
                heads=cast(int, values[f"layer{i}.heads"]),
                head_size=self.spec.head_size,
                hidden=cast(int, values[f"layer{i}.hidden"]),
                epsilon=self.epsilon,
            )
            for i in range(cast(int, values["depth"]))
        ]
        embedding = Embedding(width, vocabulary=self.vocabulary, positions=self.positions, epsilon=self.epsilon)
        return Encoder(embedding, layers, Head(width, self.n_classes), padding=self.padding)

    def example(self, batch_size: int = 1) -> Tensor:
        token = 1 if self.padding == 0 else 0  # a sentence without padding
        return torch.full((batch_size, self.tokens), token)

    def to_json(self) -> dict[str, Any]:
        return {
            "family": self.name,
            "spec": self.spec.to_json(),
            **{name: getattr(self, name) for name in (*_LIMITS, "padding", "epsilon")},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EncoderFamily:
        """The family that `to_json` wrote.

        Raises:
            CheckpointError: the data are those of no such family.
        """
        try:
            sizes = {name: int(data[name]) for name in (*_LIMITS, "padding")}
            return cls(EncoderSpec.from_json(data["spec"]), epsilon=float(data["epsilon"]), **sizes)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the description of an {cls.name} is malformed: {error!r}") from None


def _choices(spec: EncoderSpec) -> list[Choice]:
    choices = [Choice("depth", spec.depth), Choice("width", spec.width)]
    for i in range(spec.depth[-1]):
        level = next(level for level, depth in enumerate(spec.depth) if depth > i)
        requires = ("depth", level) if level > 0 else None
        choices.append(Choice(f"layer{i}.heads", spec.heads, requires))
        choices.append(Choice(f"layer{i}.hidden", spec.hidden, requires))
    return choices
