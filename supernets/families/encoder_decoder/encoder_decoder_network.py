"""Modules of the family encoder-decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.families.decoder.decoder_network import MLP, CausalAttention, Decoder, Embedding, Turn
from supernets.families.encoder_decoder.encoder_decoder_serving import served_pairs
from supernets.families.encoder_decoder.encoder_decoder_spec import MAX_ATTENDED
from supernets.networks.own_operations import is_recording
from supernets.networks.tokens import (
    attend_grouped,
    by_head,
    cross_memory,
    divided,
    last_token,
    padding_mask,
    repeated_mask,
    rotation,
    token_positions,
)


class CrossAttention(nn.Module):
    """Attention of the target's tokens to the outputs of the encoder's last layers, concatenated, without positions.

    The number of these layers is an axis, as widths are, and the length of `attended`, whose values are never read.
    """

    attended: Tensor

    def __init__(self, width: int, source_width: int, *, heads: int, head_size: int, attended: int) -> None:
        super().__init__()
        self.head_size = head_size
        self.query = nn.Linear(width, heads * head_size, bias=False)
        self.key = nn.Linear(source_width, heads * head_size, bias=False)
        self.value = nn.Linear(source_width, heads * head_size, bias=False)
        self.project = nn.Linear(heads * head_size, width, bias=False)
        self.register_buffer("attended", torch.arange(attended))

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        """Does nothing for a live subnet: no attribute repeats the shape of a tensor."""

    def memory(self, encoded: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Keys and values (n, heads, layers x source, head_size) of the encoder's layers, (n, source, width) each."""
        if is_recording():
            return cross_memory(encoded, self.key.weight, self.value.weight, self.attended, self.head_size)
        # By the modules, whose forwards may have hooks or adapters in training.
        layers = encoded[-len(self.attended) :]
        keys, values = (
            torch.cat([by_head(part(x), self.head_size) for x in layers], dim=2) for part in (self.key, self.value)
        )
        return keys, values

    def forward(self, x: Tensor, mask: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The attended tokens (n, target, width).

        Args:
            x: Tokens of the target, (n, target, width).
            mask: Mask of the source, (n, 1, 1, source).
            key, value: Keys and values of the source, as `memory` returns them.
        """
        query = by_head(self.query(x), self.head_size)
        return cast(Tensor, self.project(attend_grouped(query, key, value, repeated_mask(mask, self.attended))))

    def extra_repr(self) -> str:
        return f"head_size={self.head_size}, attended={len(self.attended)}"


class CrossLayer(nn.Module):
    """Attention to the target's tokens before and to the source, then an MLP, each on normalised tokens and with a skip."""

    has_attention = True
    """Its attention is never skipped, and has a cache, see `cache_shapes`."""

    def __init__(
        self,
        norm1: nn.Module,
        attention: CausalAttention,
        norm2: nn.Module,
        mlp: MLP,
        norm3: nn.Module,
        cross: CrossAttention,
    ) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = norm1, attention, norm2, mlp
        self.norm3, self.cross = norm3, cross

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        turn: Turn | None,
        padding: Tensor,
        encoded: Sequence[Tensor],
        past: Sequence[Tensor] | None = None,
        memory: Sequence[Tensor] = (),
    ) -> Any:
        """The tokens; unless `past` is None, also keys and values of the tokens so far, then those of the source.

        Args:
            padding: Mask of the source.
            encoded: Outputs of the encoder; not read where there is a memory.
            past: Keys and values of the tokens before, see `CausalAttention`.
            memory: Keys and values of the source; () to make them.
        """
        key = value = None
        if past is None:
            attended = self.attention(self.norm1(x), mask, turn)
        else:
            attended, key, value = self.attention(self.norm1(x), mask, turn, past)
        x = x + attended
        source = tuple(memory) or self.cross.memory(encoded)
        x = x + self.cross(self.norm3(x), padding, *source)
        x = x + self.mlp(self.norm2(x))
        return x if past is None else (x, key, value, *source)


class Encoder(nn.Module):
    """Token ids (n, source) -> the normalised outputs of the last layers, (n, source, width) each."""

    def __init__(
        self, embedding: Embedding, layers: Mapping[str, nn.Module], norm: nn.Module, *, frequencies: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.embedding, self.layers, self.norm = embedding, nn.ModuleDict(layers), norm

    def forward(self, ids: Tensor, padding: Tensor) -> tuple[Tensor, ...]:
        turn, x, outputs = rotation(token_positions(ids), self.frequencies), self.embedding(ids), []
        for layer in self.layers.values():
            x = layer(x, padding, turn)
            outputs.append(x)
        # A program has the outputs of all layers, since a smaller depth has other last ones.
        last = outputs if is_recording() else outputs[-MAX_ATTENDED:]
        return tuple(self.norm(output) for output in last)

    def extra_repr(self) -> str:
        return f"frequencies={len(self.frequencies)}"


class TargetDecoder(Decoder):
    """A decoder whose layers, `CrossLayer`, also attend to a source."""

    def forward(self, ids: Tensor, padding: Tensor, encoded: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        masks, x = self.masks_and_turns(ids), self.embedding(ids)
        for name, layer in self.layers.items():
            x = layer(x, *masks[name], padding, encoded)
        return cast(Tensor, self.head(x, self.table))

    def served(
        self, ids: Tensor, padding: Tensor, encoded: Sequence[Tensor], cache: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Returns what `ServedPairs` does, from the outputs of the encoder.

        Args:
            ids: (n, 1), int64: the separator, or the last token of each target.
            padding: Mask of the source.
            encoded: Outputs of the encoder's last layers, (n, source, width) each; () with a cache.
            cache: Keys and values of the call before, then those for the source; () in the first call.
        """
        before, n = cache[0] if cache else None, 2 * len(self.layers)
        masks, x = self.masks_and_turns(ids, None, before), self.embedding(ids)
        past, memory = list[Tensor](), list[Tensor]()
        for i, (name, layer) in enumerate(self.layers.items()):
            of_layer = slice(2 * i, 2 * i + 2)
            outputs = layer(x, *masks[name], padding, encoded, cache[:n][of_layer], cache[n:][of_layer])
            x = outputs[0]
            past += [outputs[1], outputs[2]]
            memory += [outputs[3], outputs[4]]
        return self.head(last_token(x), self.table), *past, *(() if cache else memory)


class EncoderDecoder(nn.Module):
    """Pairs of token ids -> logits of the token after each of the target's, (n, target, vocabulary).

    The ids are (n, source + target). The source is padded at its end with the separator, which is also the first token of the
    target; what follows a token of the target changes nothing before it.

    Args:
        source: tokens of the padded source.
        separator: its id.
    """

    def __init__(self, encoder: Encoder, decoder: TargetDecoder, *, source: int, separator: int) -> None:
        super().__init__()
        self.source, self.separator = source, separator
        self.encoder, self.decoder = encoder, decoder

    def forward(self, ids: Tensor) -> Tensor:
        parts = divided(ids, self.source)
        padding = padding_mask(parts[0], self.separator)
        return cast(Tensor, self.decoder(parts[1], padding, self.encoder(parts[0], padding)))

    def served_models(self) -> Mapping[str, bytes]:
        """The ONNX models by which the network, extracted, is served with a cache."""
        return served_pairs(self)

    def extra_repr(self) -> str:
        return f"source={self.source}, separator={self.separator}"
