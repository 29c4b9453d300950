"""The two graphs of a served decoder, lowered to ONNX: reading a prompt, and a step with a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from supernets.families.decoder.network import Decoder, Layer, Served
from supernets.graph import BATCH_SIZE, LENGTH, OUTPUT, PAST, Input, lower_inputs

IDS, PADDING = "ids", "padding"


def cache_names(network: Decoder, prefix: str) -> list[str]:
    """The names of the keys and values of each layer, in the order of `Served`.

    Args:
        prefix: ``past`` for inputs, ``present`` for outputs.
    """
    return [f"{prefix}.{i}.{kind}" for i in range(len(network.layers)) for kind in ("key", "value")]


def lower_prefill(network: Decoder) -> bytes:
    """The ONNX model that reads prompts: `IDS` (n, tokens) and `PADDING` (n,), int64, -> `OUTPUT` (n, vocabulary), and for each
    layer ``present.I.key`` and ``present.I.value`` (n, groups, tokens, head_size).

    Prompts of a batch are padded at their beginnings, with any token; `PADDING` counts these.

    Args:
        network: extracted, in eval mode.

    Raises:
        LoweringError: as of `supernets.graph.lower`.
    """
    return _lowered(network, LENGTH, [])


def lower_step(network: Decoder) -> bytes:
    """The ONNX model that reads one more token of each text: as of `lower_prefill`, with `IDS` (n, 1) and ``past.I.key`` and
    ``past.I.value``, which are what the call before returned as present."""
    shapes = [(BATCH_SIZE, groups, PAST, size) for groups, size in cache_shapes(network) for _ in ("key", "value")]
    cache = zip(cache_names(network, "past"), shapes, strict=True)
    return _lowered(network, 1, [Input(name, shape) for name, shape in cache])


def cache_shapes(network: Decoder) -> list[tuple[int, int]]:
    """Of each layer, the heads and channels of its keys, and of its values."""
    attentions = [cast(Layer, layer).attention for layer in network.layers.values()]
    return [(own.key.out_features // own.head_size, own.head_size) for own in attentions]


def _lowered(network: Decoder, tokens: int, cache: Sequence[Input]) -> bytes:
    read = [Input(IDS, (BATCH_SIZE, tokens), integer=True), Input(PADDING, (BATCH_SIZE,), integer=True), *cache]
    return lower_inputs(Served(network).eval(), read, [OUTPUT, *cache_names(network, "present")])
