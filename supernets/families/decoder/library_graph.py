"""Decoders as one ONNX graph whose inputs and outputs are named as ONNX Runtime GenAI and optimum expect them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from supernets.families.decoder.decoder_serving import IDS, PADDING, cache_names, cache_shapes, lower_tokens
from supernets.networks.onnx_graph.ir import BATCH, OUTPUT

if TYPE_CHECKING:
    from supernets.families.decoder.decoder_network import Decoder

INPUT_IDS, ATTENTION_MASK, LOGITS = "input_ids", "attention_mask", "logits"
POSITION_IDS = "position_ids"
"""An input that changes nothing, as positions follow from the mask: optimum warns of graphs without it."""
PAST, PRESENT = "past_key_values", "present"
"""Prefixes of the names of caches in inputs and outputs: ``past_key_values.0.key``."""
_TOTAL = "total"
"""The dimension of all tokens, of the cache and new ones."""


def lower_library_graph(network: Decoder, *, has_positions: bool = False) -> bytes:
    """The ONNX model of prompts and steps: `INPUT_IDS` (n, tokens) and `ATTENTION_MASK` (n, past + tokens), int64, and the
    cache -> `LOGITS` (n, tokens, vocabulary) and the cache.

    The mask is 0 for padding at the beginning of texts. All layers' caches have as many heads as the largest, since the two
    libraries give them one number; those that a layer lacks are zeros, and are not read. Layers without attention have none:
    the caches of others are numbered without gaps.

    Args:
        network: extracted, in eval mode.
        has_positions: Whether the graph has the input `POSITION_IDS`, int64 as `INPUT_IDS`.

    Raises:
        LoweringError: as of `supernets.networks.module_to_onnx.lower`.
    """
    model = onnx.load_model_from_string(lower_tokens(network))
    graph, shapes = model.graph, cache_shapes(network)
    new_names = {
        IDS: INPUT_IDS,
        OUTPUT: LOGITS,
        **dict(zip(_caches(shapes, "past"), _caches(shapes, PAST), strict=True)),
    }
    _rename(graph, new_names)
    _read_mask(graph)
    if has_positions:
        positions = onnx.ValueInfoProto()
        positions.CopyFrom(graph.input[0])
        positions.name = POSITION_IDS
        graph.input.insert(2, positions)
    most = max((heads for heads, _ in shapes), default=0)
    for i, (heads, _) in enumerate(shapes):
        if heads < most:
            for kind in ("key", "value"):
                _widen(graph, f"{PAST}.{i}.{kind}", f"{PRESENT}.{i}.{kind}", heads, most)
    return bytes(model.SerializeToString())


def _caches(shapes: list[tuple[int, int]], prefix: str) -> list[str]:
    return cache_names(len(shapes), prefix)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _read_mask(graph: onnx.GraphProto) -> None:
    """Computes the number of tokens of padding, which the graph reads, from a mask: the place of the first 1."""
    of_padding = next(value for value in graph.input if value.name == PADDING)
    graph.input.remove(of_padding)
    graph.input.insert(1, helper.make_tensor_value_info(ATTENTION_MASK, TensorProto.INT64, [BATCH, _TOTAL]))
    narrow = helper.make_node("Cast", [ATTENTION_MASK], [f"{ATTENTION_MASK}.int32"], to=TensorProto.INT32)
    first = helper.make_node("ArgMax", [f"{ATTENTION_MASK}.int32"], [PADDING], axis=1, keepdims=0)
    for node in (first, narrow):
        graph.node.insert(0, node)


def _widen(graph: onnx.GraphProto, past: str, present: str, heads: int, most: int) -> None:
    """Gives a cache, of which a layer reads and writes the first heads, more of them."""
    dims = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output)}
    dims[past][1].dim_value = dims[present][1].dim_value = most
    read, written = f"{past}.read", f"{present}.written"
    for node in graph.node:
        node.input[:] = [{past: read, present: written}.get(name, name) for name in node.input]
        node.output[:] = [written if name == present else name for name in node.output]
    for name, numbers in {
        "start": [0],
        "end": [heads],
        "axis": [1],
        "widths": [0, 0, 0, 0, 0, most - heads, 0, 0],
    }.items():
        graph.initializer.append(helper.make_tensor(f"{past}.{name}", TensorProto.INT64, [len(numbers)], numbers))
    graph.node.insert(0, helper.make_node("Slice", [past, *(f"{past}.{n}" for n in ("start", "end", "axis"))], [read]))
    graph.node.append(helper.make_node("Pad", [written, f"{past}.widths"], [present]))
