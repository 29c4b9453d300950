"""Folding of batch norms into the convolutions and linear layers before them."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from supernets.graph.ir import Graph, Node

Arrays = dict[str, NDArray[np.generic]]


def fold(graph: Graph, nodes: Sequence[Node], output: str) -> tuple[list[Node], Arrays]:
    """Folds batch norms into the layers before them, unless another node reads a layer's output.

    Args:
        nodes: some of the graph's, in order.
        output: the value that the caller uses, which keeps its name.

    Returns:
        The nodes, and the arrays that they read, by name; those of folded layers are new.
    """
    n_readers = Counter(name for node in nodes for name in node.inputs)
    n_readers[output] += 1
    folded: Arrays = {}
    arrays = ChainMap(folded, graph.parameters, graph.constants)
    kept: list[Node] = []
    producers: dict[str, int] = {}
    for node in nodes:
        at = producers.get(node.inputs[0]) if node.op == "BatchNormalization" else None
        if at is not None and kept[at].op in ("Conv", "Gemm") and n_readers[node.inputs[0]] == 1:
            layer = kept[at]
            weight = f"{layer.inputs[1]}.folded"
            if weight in folded:  # the layer is called twice, followed by different norms
                weight += f"_{at}"
            bias = f"{weight}_bias"
            folded[weight], folded[bias] = _folded(arrays, layer, node)
            kept[at] = Node(layer.op, (layer.inputs[0], weight, bias), node.outputs, layer.attributes)
        else:
            at = len(kept)
            kept.append(node)
        producers.update(dict.fromkeys(node.outputs, at))
    read = dict.fromkeys(name for node in kept for name in node.inputs)
    return kept, {name: arrays[name] for name in [*(n for n in folded if n in read), *read] if name in arrays}


def _folded(
    arrays: Mapping[str, NDArray[np.generic]], layer: Node, norm: Node
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Weight and bias of a layer that equals the layer and the norm; computed in double precision, then rounded."""
    scale, shift, mean, variance = (arrays[name].astype(np.float64) for name in norm.inputs[1:])
    epsilon = norm.attributes["epsilon"]
    assert isinstance(epsilon, float)
    factor = scale / np.sqrt(variance + epsilon)
    bias = arrays[layer.inputs[2]].astype(np.float64) if len(layer.inputs) > 2 else np.zeros_like(mean)
    weight = arrays[layer.inputs[1]]
    by_output = factor.astype(np.float32).reshape(-1, *(1,) * (weight.ndim - 1))
    # C order, because serialisation would copy a strided result again.
    folded = np.multiply(weight, by_output, order="C")
    return folded, ((bias - mean) * factor + shift).astype(np.float32)


def names_read(nodes: Sequence[Node], arrays: Mapping[str, object]) -> list[str]:
    """The values that the nodes read from outside, each once, in the order of reading."""
    written = {name for node in nodes for name in node.outputs}
    return list(dict.fromkeys(n for node in nodes for n in node.inputs if n and n not in written and n not in arrays))
