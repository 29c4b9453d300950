"""Modules of the family decoder: language models with causal attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.families.decoder.decoder_serving import ServedModels
from supernets.families.decoder.decoder_spec import QKNorm
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


class Scope(NamedTuple):
    """How the attention of a layer sees the tokens before.

    Attributes:
        window: Number of tokens up to and with each one that it attends to; 0 for all.
        frequencies: Frequencies of rotary positions; () for none.
    """

    window: int = 0
    frequencies: tuple[float, ...] = ()


class CausalAttention(nn.Module):
    """Grouped-query attention (arXiv 2305.13245) of tokens to those before them.

    The numbers of heads and of experts follow from the channels, so that a live subnet's smaller tensors need no correction.

    Args:
        qk_norm: See `DecoderSpec`.
        epsilon: Term that the norms of queries and keys add to the mean square.
        cap: Bound of the scores, see `attend_grouped`; 0 for none.
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
        qk_norm: QKNorm | None = None,
        epsilon: float = 1e-5,
        cap: float = 0.0,
        experts: int | None = None,
    ) -> None:
        super().__init__()
        self.head_size, channels = head_size, groups * (experts or 1) * queries * head_size
        self.qk_norm, self.cap = qk_norm, cap
        self.query = nn.Linear(width, channels, bias=qkv_bias)
        self.key = nn.Linear(width, groups * head_size, bias=qkv_bias)
        self.value = nn.Linear(width, groups * head_size, bias=qkv_bias)
        self.project = nn.Linear(channels, width, bias=project_bias)
        self.router = None if experts is None else nn.Linear(width, experts, bias=False)
        if qk_norm is not None:
            sizes = (channels, groups * head_size) if qk_norm == "whole" else (head_size, head_size)
            self.query_norm, self.key_norm = (nn.RMSNorm(size, eps=epsilon) for size in sizes)

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
        query, key = self._by_head("query", x), self._by_head("key", x)
        value = by_head(self.value(x), self.head_size)
        if turn is not None:
            query, key = rotated(query, *turn), rotated(key, *turn)
        if past and filled is not None:
            attended, key, value = attend_filled(query, key, value, past[0], past[1], mask, filled, self.cap)
        else:
            if past:
                key, value = appended(past[0], key), appended(past[1], value)
            attended = attend_grouped(query, key, value, mask, self.cap)
        if self.router is not None:
            attended = gated_heads(attended, self.router(x).softmax(-1), key)
        attended = self.project(attended)
        return attended if past is None else (attended, key, value)

    def _by_head(self, name: str, x: Tensor) -> Tensor:
        """Queries or keys of tokens, (n, heads, tokens, head_size)."""
        heads = getattr(self, name)(x)
        if self.qk_norm == "whole":
            heads = getattr(self, f"{name}_norm")(heads)
        heads = by_head(heads, self.head_size)
        return cast(Tensor, getattr(self, f"{name}_norm")(heads) if self.qk_norm == "head" else heads)

    def extra_repr(self) -> str:
        return f"head_size={self.head_size}, qk_norm={self.qk_norm}, cap={self.cap}"


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
    """Attention, then an MLP or experts, each on normalised tokens and with a skip; a subnet's may be without one of them.

    Perhaps the outputs of both are normalised, too. Where `DecoderSpec.norms` lacks norms, they are identities.
    """

    mlp: Any
    """An `MLP` or an `ExpertLayer`."""

    def __init__(
        self,
        norm1: nn.Module | None,
        attention: CausalAttention,
        norm2: nn.Module | None,
        mlp: nn.Module,
        post_norm1: nn.Module | None = None,
        post_norm2: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = (
            norm1 or nn.Identity(),
            attention,
            norm2 or nn.Identity(),
            mlp,
        )
        self.post_norm1, self.post_norm2 = post_norm1 or nn.Identity(), post_norm2 or nn.Identity()

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
            x = x + self.post_norm1(attended)
        if self.has_mlp:
            x = x + self.post_norm2(self.mlp(self.norm2(x), *(() if routed is None else (routed,))))
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
    """The logits of the next token: (n, ..., width) -> (n, ..., vocabulary).

    Args:
        tied: Whether the weights are those of the embedding.
        cap: Bound of the logits, which are softly capped, see `attend_grouped`; 0 for none.
    """

    def __init__(self, norm: nn.Module, width: int, vocabulary: int, *, tied: bool, cap: float = 0.0) -> None:
        super().__init__()
        self.norm, self.cap = norm, cap
        self.words = TiedLinear() if tied else nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        logits = self.words(x) if table is None else self.words(x, table)
        return cast(Tensor, self.cap * torch.tanh(logits / self.cap) if self.cap else logits)

    def extra_repr(self) -> str:
        return f"cap={self.cap}"


class Decoder(nn.Module):
    """Embedding, layers and head: token ids (n, tokens) -> logits of the token after each, (n, tokens, vocabulary).

    Padding at the ends of texts changes nothing before it, so that there is no mask for it.

    Args:
        scopes: How each layer sees the tokens before, by its name.
        router: Router of the experts of all layers, which reads the embeddings; None where layers have their own.
    """

    def __init__(
        self,
        embedding: Embedding,
        layers: Mapping[str, nn.Module],
        head: Head,
        *,
        scopes: Mapping[str, Scope],
        router: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.scopes, self.router = dict(scopes), router
        self.embedding, self.layers, self.head = embedding, nn.ModuleDict(layers), head

    def forward(self, ids: Tensor) -> Tensor:
        masks, x = self.masks_and_turns(ids), self.embedding(ids)
        routed = None if self.router is None else self.router(x)
        for name, layer in self.layers.items():
            x = layer(x, *masks[name], None, None, routed)
        return cast(Tensor, self.head(x, self.table))

    def masks_and_turns(
        self, ids: Tensor, padding: Tensor | None = None, past: Tensor | None = None, filled: Tensor | None = None
    ) -> dict[str, tuple[Tensor, Turn | None]]:
        """The mask of each layer, and the angles of its rotary positions, by its name; None for one without.

        Args:
            ids, padding, past, filled: Arguments of `token_positions`.
        """
        scopes = {name: self.scopes[name] for name in self.layers}
        windows = dict.fromkeys(scope.window for scope in scopes.values())
        masks = {window: causal_mask(ids, padding, past, filled, window) for window in windows}
        turns: dict[tuple[float, ...], Turn | None] = {}
        for frequencies in dict.fromkeys(scope.frequencies for scope in scopes.values()):
            positions = token_positions(ids, padding, past, filled) if frequencies else None
            turns[frequencies] = None if positions is None else rotation(positions, frequencies)
        return {name: (masks[scope.window], turns[scope.frequencies]) for name, scope in scopes.items()}

    def served_models(self) -> Mapping[str, bytes]:
        """The ONNX models by which the network, extracted, is served with a cache."""
        return ServedModels(self)

    @property
    def table(self) -> Tensor | None:
        """The weight of a tied head; None for a head with its own."""
        return self.embedding.words.weight if isinstance(self.head.words, TiedLinear) else None

    def extra_repr(self) -> str:
        return f"scopes={[(window, len(frequencies)) for window, frequencies in self.scopes.values()]}"
