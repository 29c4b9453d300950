"""The two graphs of a served encoder-decoder, lowered to ONNX: reading a source, and a step with a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from supernets.families.decoder.serving import (
    IDS,
    PORTABLE_STEP,
    PREFILL,
    STEP,
    ServedModels,
    cache_inputs,
    cache_names,
    token_inputs,
)
from supernets.families.encoder_decoder.network import CrossLayer, EncoderDecoder, ServedPairs
from supernets.networks.capture.program import BATCH, TIED
from supernets.networks.family_program import TOKENS_DIM, View, ViewInput
from supernets.networks.network import view_of
from supernets.networks.onnx_graph import OUTPUT

SOURCE, MEMORY = "source", "memory"
"""Name of the input with the source's tokens; beginning of the names of its keys and values."""


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
    attentions = [cast(CrossLayer, layer).cross for layer in network.decoder.layers.values()]
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
