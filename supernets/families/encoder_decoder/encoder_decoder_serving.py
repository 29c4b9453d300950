"""Encoder-decoders as they are served with a cache, and their two graphs lowered to ONNX: reading a source, and a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from supernets.families.decoder.decoder_serving import (
    IDS,
    PORTABLE_STEP,
    PREFILL,
    STEP,
    ServedModels,
    cache_inputs,
    cache_names,
)
from supernets.networks.capture.program import BATCH, TIED
from supernets.networks.family_program import TOKENS_DIM, View, ViewInput
from supernets.networks.language_models import token_inputs
from supernets.networks.network import view_of
from supernets.networks.onnx_graph.ir import OUTPUT
from supernets.networks.tokens import padding_mask

if TYPE_CHECKING:  # an encoder-decoder has its served models
    from supernets.families.encoder_decoder.encoder_decoder_network import EncoderDecoder

SOURCE, MEMORY = "source", "memory"
"""Name of the input with the source's tokens; beginning of the names of its keys and values."""


class ServedPairs(nn.Module):
    """An encoder-decoder as it is served: without a cache it reads sources, with one it takes steps of one token."""

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, source: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """Logits of the token after the last one (n, vocabulary); then keys and values of each decoder layer for the target's
        tokens so far; and without a cache also those for the source.

        Args:
            ids: (n, 1), int64: the separator, then the last token of each target.
            source: (n, tokens), int64, padded at the end with the separator; the same in each call.
            cache: the keys and values of the call before, then those for the source.
        """
        network = self.network
        padding = padding_mask(source, network.separator)
        encoded = () if cache else network.encoder(source, padding)
        return network.decoder.served(ids, padding, encoded, cache)


def lower_source(network: EncoderDecoder) -> bytes:
    """The ONNX model that reads sources and the first token of targets: `IDS` (n, 1) and `SOURCE` (n, tokens), int64, ->
    `OUTPUT` (n, vocabulary), and for each decoder layer ``present.I.key`` and ``present.I.value`` (n, heads, 1, head_size),
    then ``memory.I.key`` and ``memory.I.value`` (n, heads, tokens x layers read, head_size).

    Sources of a batch are padded at their ends with the separator.

    Args:
        network: extracted, in eval mode.

    Raises:
        LoweringError: as of `supernets.networks.module_to_onnx.lower`.
    """
    return _lowered(network, SOURCES, [], ["present", MEMORY])


def lower_target(network: EncoderDecoder) -> bytes:
    """The ONNX model that reads one more token of each target: as of `lower_source`, with ``past.I.key`` and ``past.I.value``,
    which the call before returned as present, and the memory as the first call returned it, which it does not return."""
    names = [name for prefix in ("past", MEMORY) for name in cache_names(len(network.decoder.layers), prefix)]
    return _lowered(network, TARGETS, names, ["present"])


def served_pairs(network: EncoderDecoder) -> ServedModels:
    """The models by which an encoder-decoder is served; steps copy the cache of the target's tokens, which are few."""
    return ServedModels(network, {PREFILL: lower_source, STEP: lower_target, PORTABLE_STEP: lower_target})


_TOKENS = 7
_ONE, _SOURCE = token_inputs(1), token_inputs(_TOKENS, TOKENS_DIM)


def _memory(network: EncoderDecoder) -> list[ViewInput]:
    """The keys and values of sources, (n, heads, layers read x tokens, head_size), of each decoder layer."""
    attentions: list[Any] = [layer.cross for layer in network.decoder.layers.values()]
    n = len(_ONE.example)
    shapes = [
        (n, len(attention.key.weight) // attention.head_size, len(attention.attended) * _TOKENS, attention.head_size)
        for attention in attentions
    ]
    return [ViewInput(torch.zeros(shape), (BATCH, TIED, TIED, "")) for shape in shapes for _ in ("key", "value")]


SOURCES = View(PREFILL, ServedPairs, lambda network: [_ONE, _SOURCE])
TARGETS = View(
    STEP, ServedPairs, lambda network: [_ONE, _SOURCE, *cache_inputs(network.decoder, "past"), *_memory(network)]
)


def _lowered(network: EncoderDecoder, view: View, more: Sequence[str], prefixes: Sequence[str]) -> bytes:
    names = [name for prefix in prefixes for name in cache_names(len(network.decoder.layers), prefix)]
    return view_of(network, view).served_onnx([IDS, SOURCE, *more], [OUTPUT, *names])
