"""Modules of the family decoder: language models with causal attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.families.decoder.decoder_serving import ServedModels
from supernets.networks.tokens import (
    appended,
    attend_filled,
    attend_grouped,
    by_head,
    causal_mask,
    gated_heads,
    rotated,
    rotation,
    token_positions,
)

Turn = tuple[Tensor, Tensor]
"""Cosine and sine of the angles of rotary positions."""
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu-tanh": lambda: nn.GELU(approximate="tanh"),
}


class CausalAttention(nn.Module):
    """Grouped-query attention (arXiv 2305.13245) of tokens to those before them.

    The numbers of heads and of experts follow from the channels, so that a live subnet's smaller tensors need no correction.

    Args:
        experts: sets of queries and projections, each for all heads of queries, whose outputs are mixed by a router (see
            `DecoderSpec.attention_experts`); in a group's channels one follows another. None for one set and no router.
    """

    def __init__(
        self,
        width: int,
        *,
        groups: int,
        queries: int,
        head_size: int,
        qkv_bias: bool,
        project_bias: bool,
        experts: int | None = None,
    ) -> None:
        super().__init__()
        self.head_size, channels = head_size, groups * (experts or 1) * queries * head_size
        self.query = nn.Linear(width, channels, bias=qkv_bias)
        self.key = nn.Linear(width, groups * head_size, bias=qkv_bias)
        self.value = nn.Linear(width, groups * head_size, bias=qkv_bias)
        self.project = nn.Linear(channels, width, bias=project_bias)
        self.router = None if experts is None else nn.Linear(width, experts, bias=False)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        turn: Turn | None,
        past: Sequence[Tensor] | None = None,
        filled: Tensor | None = None,
    ) -> Any:
        """The attended tokens (n, tokens, width); unless `past` is None, also keys and values of all tokens so far.

        Args:
            past: Keys and values of the tokens before, each (n, groups, past, head_size); () for none.
            filled: The number of tokens in the cache, see `attend_filled`, where `past` has room for the only token; None where
                it has not.
        """
        query, key, value = (by_head(part(x), self.head_size) for part in (self.query, self.key, self.value))
        if turn is not None:
            query, key = rotated(query, *turn), rotated(key, *turn)
        if past and filled is not None:
            attended, key, value = attend_filled(query, key, value, past[0], past[1], mask, filled)
        else:
            if past:
                key, value = appended(past[0], key), appended(past[1], value)
            attended = attend_grouped(query, key, value, mask)
        if self.router is not None:
            attended = gated_heads(attended, self.router(x).softmax(-1), key)
        attended = self.project(attended)
        return attended if past is None else (attended, key, value)

    def extra_repr(self) -> str:
        return f"head_size={self.head_size}"


class MLP(nn.Module):
    """The layers between two attentions: plain, or gated (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int, *, gated: bool, activation: str, bias: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=bias) if gated else None
        self.up = nn.Linear(width, hidden, bias=bias)
        self.activation = ACTIVATIONS[activation]()
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.up(x)
        inner = self.activation(inner) if self.gate is None else self.activation(self.gate(x)) * inner
        return cast(Tensor, self.down(inner))


class Layer(nn.Module):
    """Attention, then an MLP or experts, each on normalised tokens and with a skip; a subnet's may be without one of them."""

    mlp: Any
    """An `MLP` or an `ExpertLayer`."""

    def __init__(self, norm1: nn.Module, attention: CausalAttention, norm2: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = norm1, attention, norm2, mlp

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        turn: Turn | None,
        past: Sequence[Tensor] | None = None,
        filled: Tensor | None = None,
        routed: Tensor | None = None,
    ) -> Any:
        """Returns the tokens after the layer, and keys and values where `CausalAttention` returns them.

        Args:
            x: Tokens, (n, tokens, width).
            mask, turn, past, filled: Arguments of `CausalAttention`.
            routed: Outputs of the network's router; None without one.
        """
        cache: list[Tensor] = []
        if self.has_attention:
            attended = self.attention(self.norm1(x), mask, turn, past, filled)
            if past is not None:
                attended, *cache = attended
            x = x + attended
        if self.has_mlp:
            x = x + self.mlp(self.norm2(x), *(() if routed is None else (routed,)))
        return x if past is None else (x, *cache)

    @property
    def has_attention(self) -> bool:
        """False for a layer of a subnet that skips its attention, and has no cache."""
        return "attention" in self._modules

    @property
    def has_mlp(self) -> bool:
        """False for a layer of a subnet that skips its MLP."""
        return "mlp" in self._modules


class Embedding(nn.Module):
    """Tokens as vectors, (n, tokens) -> (n, tokens, width); in the layout ``gpt2`` with those of their positions."""

    def __init__(self, width: int, *, vocabulary: int, positions: int | None, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.words = nn.Embedding(vocabulary, width)
        self.positions = None if positions is None else nn.Parameter(torch.zeros(positions, width))

    def forward(
        self, ids: Tensor, padding: Tensor | None = None, past: Tensor | None = None, filled: Tensor | None = None
    ) -> Tensor:
        x = self.words(ids)
        if self.scale != 1:
            x = x * self.scale
        if self.positions is None:
            return cast(Tensor, x)
        return cast(Tensor, x + functional.embedding(token_positions(ids, padding, past, filled), self.positions))

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        """Does nothing for a live subnet: no attribute repeats the shape of the positions."""

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class TiedLinear(nn.Module):
    """A linear layer whose weight is another module's."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight)


class Head(nn.Module):
    """The logits of the next token: (n, ..., width) -> (n, ..., vocabulary)."""

    def __init__(self, norm: nn.Module, width: int, vocabulary: int, *, tied: bool) -> None:
        super().__init__()
        self.norm = norm
        self.words = TiedLinear() if tied else nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        return cast(Tensor, self.words(x) if table is None else self.words(x, table))


class Decoder(nn.Module):
    """Embedding, layers and head: token ids (n, tokens) -> logits of the token after each, (n, tokens, vocabulary).

    Padding at the ends of texts changes nothing before it, so that there is no mask for it.

    Args:
        frequencies: Frequencies of rotary positions; () for none.
        router: Router of the experts of all layers, which reads the embeddings; None where layers have their own.
    """

    def __init__(
        self,
        embedding: Embedding,
        layers: Mapping[str, nn.Module],
        head: Head,
        *,
        frequencies: tuple[float, ...],
        router: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.frequencies, self.router = frequencies, router
        self.embedding, self.layers, self.head = embedding, nn.ModuleDict(layers), head

    def forward(self, ids: Tensor) -> Tensor:
        mask, turn = causal_mask(ids), self.turn(ids)
        x = self.embedding(ids)
        routed = None if self.router is None else self.router(x)
        for layer in self.layers.values():
            x = layer(x, mask, turn, None, None, routed)
        return cast(Tensor, self.head(x, self.table))

    def turn(
        self, ids: Tensor, padding: Tensor | None = None, past: Tensor | None = None, filled: Tensor | None = None
    ) -> Turn | None:
        """The angles of rotary positions; None for a network without."""
        return rotation(token_positions(ids, padding, past, filled), self.frequencies) if self.frequencies else None

    def served_models(self) -> Mapping[str, bytes]:
        """The ONNX models by which the network, extracted, is served with a cache."""
        return ServedModels(self)

    @property
    def table(self) -> Tensor | None:
        """The weight of a tied head; None for a head with its own."""
        return self.embedding.words.weight if isinstance(self.head.words, TiedLinear) else None

    def extra_repr(self) -> str:
        return f"frequencies={len(self.frequencies)}"
