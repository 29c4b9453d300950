"""An elastic encoder of sentences, laid out as BERT (arXiv 1810.04805): elastic depth and width, and heads and hidden channels
layer by layer (InstaTune, arXiv 2308.15609)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from supernets.errors import SpaceError
from supernets.families.encoder.encoder_spec import EncoderSpec
from supernets.families.shared.spec import Number
from supernets.families.shared.spec_family import Numbers
from supernets.families.shared.transformer_family import INITIAL_STD, Attention, TransformerFamily
from supernets.networks.tokens import first_rows, padding_mask
from supernets.space.axes import NamedDims

_WORDS, _POSITIONS = "embedding.words.weight", "embedding.positions"
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
        """Does nothing for a live subnet: no attribute repeats the shape of the positions."""


class Layer(nn.Module):
    """Attention, then an MLP or experts, each with a skip and normalised after it."""

    def __init__(self, width: int, *, heads: int, head_size: int, mlp: nn.Module, epsilon: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, head_size=head_size)
        self.norm1 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = mlp
        self.norm2 = nn.LayerNorm(width, eps=epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, mask))
        return cast(Tensor, self.norm2(x + self.mlp(x)))


class Head(nn.Module):
    """The classes from the first token: (n, tokens, width) -> (n, classes)."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.pool = nn.Linear(width, width)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(torch.tanh(self.pool(x[:, 0]))))


class Encoder(nn.Module):
    """Embedding, layers and head: token ids (n, tokens), padded at their ends, -> (n, classes).

    The mask is made from the ids, so that a network has one input.
    """

    def __init__(self, embedding: Embedding, layers: dict[str, Layer], head: Head, *, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.embedding, self.layers, self.head = embedding, nn.ModuleDict(layers), head

    def forward(self, ids: Tensor) -> Tensor:
        mask = padding_mask(ids, self.padding)
        x = self.embedding(ids)
        for layer in self.layers.values():
            x = layer(x, mask)
        return cast(Tensor, self.head(x))

    def extra_repr(self) -> str:
        return f"padding={self.padding}"


class EncoderFamily(TransformerFamily):
    """The family of all networks that an `EncoderSpec` spans, for sentences of token ids.

    Departures from BERT: there is one type of tokens, whose embedding is part of the words'; no dropout.

    Args:
        spec: Options of the elastic dimensions, and the fixed sizes.
        vocabulary: number of different tokens.
        positions: the most tokens of a sentence.
        padding: the token that pads short sentences.
        tokens: length of the sentence that costs are counted for.
        n_classes: Number of classes, the size of the outputs' last dimension.
        epsilon: term that layer norms add to the variance.

    Raises:
        SpaceError: a number is out of range, or the padding is not a token.
    """

    name = "encoder"
    spec_type = EncoderSpec
    numbers: ClassVar[Numbers] = {**dict.fromkeys((*_LIMITS, "padding"), int), "epsilon": float}
    spec: EncoderSpec
    positions: int

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
            Number(_LIMITS[name]).checked(name, value)
        if not 0 <= padding < vocabulary:
            raise SpaceError(f"padding: expected a token from 0 to {vocabulary - 1}, got {padding}")
        if tokens > positions:
            raise SpaceError(f"tokens: sentences of {tokens} tokens, and the networks have {positions} positions")
        self.vocabulary, self.positions, self.padding, self.tokens = vocabulary, positions, padding, tokens
        self.n_classes, self.epsilon = n_classes, epsilon
        super().__init__(spec)

    def named_dims(self) -> Mapping[str, NamedDims]:
        return {**super().named_dims(), "head.pool.weight": ("width", ...)}

    def initial_std(self, name: str, parameter: Tensor) -> float | None:
        # Of words and positions, which are normalised after they are added, the scale means little.
        return INITIAL_STD if name in (_WORDS, _POSITIONS) else super().initial_std(name, parameter)

    def constructed(self) -> nn.Module:
        width = self.spec.width[-1]
        layers = self.stacked(Layer, epsilon=self.epsilon)
        embedding = Embedding(width, vocabulary=self.vocabulary, positions=self.positions, epsilon=self.epsilon)
        return Encoder(embedding, layers, Head(width, self.n_classes), padding=self.padding)

    def example(self, batch_size: int = 1) -> Tensor:
        token = 1 if self.padding == 0 else 0  # a sentence without padding
        return torch.full((batch_size, self.tokens), token)
