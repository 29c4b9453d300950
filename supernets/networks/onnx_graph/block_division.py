"""Division of a network's graph into blocks, each with batch norms folded and a key of its computation."""

from __future__ import annotations

import hashlib
import json
from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from supernets.errors import LoweringError
from supernets.networks.onnx_graph.ir import Graph, Node, Value

Arrays = dict[str, NDArray[np.generic]]
_invalid_block = partial(LoweringError, code="export.invalid-block")


@dataclass(frozen=True, slots=True)
class Piece:
    """The nodes of one block, with its inputs in the order of reading and its output; a network may have several outputs."""

    name: str
    nodes: Sequence[Node]
    arrays: Arrays
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    constants: Mapping[str, NDArray[np.generic]]
    integers: frozenset[str]
    """Names of the integer inputs."""
    bytes: frozenset[str] = frozenset()
    """Names of the outputs that are 8-bit integers without a sign."""

    @property
    def key(self) -> str:
        """Equal for pieces with the same operations on the same shapes, for any names and weights."""
        numbers: dict[str, int] = {}

        def described(name: str) -> object:
            if name in self.constants:
                return self.constants[name].tolist()
            number = numbers.setdefault(name, len(numbers))
            return [number, *self.arrays[name].shape] if name in self.arrays else number

        for value in self.inputs:
            described(value.name)
        nodes = [
            [node.op, [described(name) for name in (*node.inputs, *node.outputs)], sorted(node.attributes.items())]
            for node in self.nodes
        ]
        text = json.dumps(
            [*(value.shape for value in self.inputs), nodes, *(described(value.name) for value in self.outputs)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def with_transposed_weights(piece: Piece) -> Piece:
    """The piece with each matrix that one transposition alone reads stored as that gives it.

    A runtime that transposes the matrices of a model when it loads it holds both forms for some time.
    """
    n_readers = Counter(name for node in piece.nodes for name in node.inputs)
    matrix_by_transposed = {
        node.outputs[0]: node.inputs[0]
        for node in piece.nodes
        if node.op == "Transpose"
        and node.attributes.get("perm") == (1, 0)
        and node.inputs[0] in piece.arrays
        and n_readers[node.inputs[0]] == 1
    }
    nodes = [
        replace(node, inputs=tuple(matrix_by_transposed.get(name, name) for name in node.inputs))
        for node in piece.nodes
        if node.outputs[0] not in matrix_by_transposed
    ]
    transposed_matrices = set(matrix_by_transposed.values())
    arrays = {name: array.T if name in transposed_matrices else array for name, array in piece.arrays.items()}
    return replace(piece, nodes=nodes, arrays=arrays)


def block_pieces(
    graph: Graph, inputs: Sequence[Value], outputs: Sequence[Value], ends: Mapping[str, tuple[int, int]]
) -> list[Piece]:
    """The pieces of a network's blocks.

    Parameter-free operations that follow a block and read only its output belong to it (for instance, the pooling between
    the last convolution and the classifier). So the pieces of blocks with all parameters make up the network, except for
    parameter-free operations on the network's input whose result several blocks read (a padding mask).

    Args:
        inputs, outputs: Inputs and outputs of the network.
        ends: the positions of each block's first node and of the one after its last, in order.

    Raises:
        LoweringError: a block returns more than one tensor, ends within an operation, or reads integers that are not the
            network's input.
    """
    pieces, limits = [], [*(start for start, _ in ends.values()), len(graph.nodes)][1:]
    for (name, (start, end)), limit in zip(ends.items(), limits, strict=True):
        nodes = _with_following(graph, start, end, limit)
        outside = names_read(nodes, {**graph.parameters, **graph.constants})
        later = [name for node in graph.nodes[start + len(nodes) :] for name in node.inputs]
        later += [value.name for value in outputs]
        results = dict.fromkeys(name for node in nodes for name in node.outputs if name in later)
        if not outside or len(results) != 1:
            counts_text = f"{len(outside)} inputs and {len(results)} outputs"
            raise _invalid_block(f"block {name} has {counts_text}; expected at least 1, and 1")
        if not results.keys() <= graph.shapes.keys():
            raise _invalid_block(f"block {name} ends within an operation; name a module that has all of it")
        if ({*outside, *results} - {value.name for value in inputs}) & graph.integers:
            raise _invalid_block(f"block {name} reads or returns integers; expected float32, or the network's input")
        pieces.append(piece_of(graph, nodes, outside, list(results), name))
    return pieces


def _with_following(graph: Graph, start: int, end: int, limit: int) -> list[Node]:
    """The nodes of a block, including the parameter-free operations that follow it."""
    available = {name for node in graph.nodes[start:end] for name in node.outputs}
    # An omitted optional input has an empty name.
    while end < limit and all(not n or n in available or n in graph.constants for n in graph.nodes[end].inputs):
        available.update(graph.nodes[end].outputs)
        end += 1
    return graph.nodes[start:end]


def piece_of(
    graph: Graph, nodes: Sequence[Node], inputs: Sequence[str], outputs: Sequence[str], name: str = ""
) -> Piece:
    """Some of a graph's nodes, in order, as a piece."""
    folded_nodes, arrays = fold(graph, nodes, outputs)
    input_values, output_values = (
        tuple(Value(value_name, graph.shapes[value_name]) for value_name in names) for names in (inputs, outputs)
    )
    return Piece(
        name,
        folded_nodes,
        arrays,
        input_values,
        output_values,
        graph.constants,
        frozenset(graph.integers.intersection(inputs)),
        frozenset(graph.bytes.intersection(outputs)),
    )


def fold(graph: Graph, nodes: Sequence[Node], outputs: Sequence[str]) -> tuple[list[Node], Arrays]:
    """Folds batch norms into the layers before them, unless another node reads a layer's output or computes a layer's weight.

    Args:
        nodes: some of the graph's, in order.
        outputs: the values that the caller uses, which keep their names.

    Returns:
        The nodes, and the arrays that they read, by name; those of folded layers are new.
    """
    n_readers = Counter(name for node in nodes for name in node.inputs)
    n_readers.update(outputs)
    folded: Arrays = {}
    arrays = ChainMap(folded, graph.parameters, graph.constants)
    remaining: list[Node] = []
    producers: dict[str, int] = {}
    for node in nodes:
        at = producers.get(node.inputs[0], -1) if node.op == "BatchNormalization" else -1
        layer = remaining[at] if at >= 0 else None
        if (
            layer is not None
            and layer.op in ("Conv", "Gemm")
            and n_readers[node.inputs[0]] == 1
            and all(name in arrays for name in (*layer.inputs[1:], *node.inputs[1:]))
        ):
            weight = f"{layer.inputs[1]}.folded"
            if weight in folded:  # the layer is called twice, followed by different norms
                weight += f"_{at}"
            bias = f"{weight}_bias"
            folded[weight], folded[bias] = _folded_weights(arrays, layer, node)
            remaining[at] = Node(layer.op, (layer.inputs[0], weight, bias), node.outputs, layer.attributes)
        else:
            at = len(remaining)
            remaining.append(node)
        producers.update(dict.fromkeys(node.outputs, at))
    read_names = dict.fromkeys(name for node in remaining for name in node.inputs)
    return remaining, {
        name: arrays[name] for name in [*(n for n in folded if n in read_names), *read_names] if name in arrays
    }


def _folded_weights(
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
