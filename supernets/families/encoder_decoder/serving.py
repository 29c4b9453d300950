"""The two graphs of a served encoder-decoder, lowered to ONNX: reading a source, and a step with a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from supernets.families.decoder.network import CausalAttention
from supernets.families.decoder.serving import IDS, PORTABLE_STEP, PREFILL, STEP, ServedModels, cache_names
from supernets.families.encoder_decoder.network import CrossAttention, CrossLayer, EncoderDecoder, ServedPairs
from supernets.graph import BATCH_SIZE, LENGTH, MEMORIES, OUTPUT, PAST, Input, lower_inputs
from supernets.graph.ir import Shape

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
        LoweringError: as of `supernets.graph.lower`.
    """
    return _lowered(network, [], ["present", MEMORY])


def lower_target(network: EncoderDecoder) -> bytes:
    """The ONNX model that reads one more token of each target: as of `lower_source`, with ``past.I.key`` and ``past.I.value``,
    which the call before returned as present, and the memory as the first call returned it, which it does not return."""
    layers = [cast(CrossLayer, layer) for layer in network.decoder.layers.values()]
    past = [_cached(layer.attention, PAST) for layer in layers]
    memory = [_cached(layer.cross, MEMORIES[layer.cross.n_attended - 1]) for layer in layers]
    names = [name for prefix in ("past", MEMORY) for name in cache_names(len(layers), prefix)]
    shapes = [shape for own in (*past, *memory) for shape in (own, own)]  # of keys, and of values
    return _lowered(network, [Input(*own) for own in zip(names, shapes, strict=True)], ["present"])


def _cached(attention: CausalAttention | CrossAttention, tokens: int) -> Shape:
    """The shape of an attention's keys, and of its values."""
    size = attention.head_size
    return (BATCH_SIZE, attention.key.out_features // size, tokens, size)


def served_pairs(network: EncoderDecoder) -> ServedModels:
    """The models by which an encoder-decoder is served; steps copy the cache of the target's tokens, which are few."""
    return ServedModels(network, {PREFILL: lower_source, STEP: lower_target, PORTABLE_STEP: lower_target})


def _lowered(network: EncoderDecoder, more: Sequence[Input], prefixes: Sequence[str]) -> bytes:
    read = [Input(IDS, (BATCH_SIZE, 1), integer=True), Input(SOURCE, (BATCH_SIZE, LENGTH), integer=True), *more]
    names = [name for prefix in prefixes for name in cache_names(len(network.decoder.layers), prefix)]
    return lower_inputs(ServedPairs(network).eval(), read, [OUTPUT, *names])
