"""A walked network cut into its blocks, each with what tells it from blocks that compute something else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from supernets.errors import LoweringError
from supernets.graph.fold import Arrays, fold, names_read
from supernets.graph.ir import Graph, Node, Value
from supernets.graph.walk import Span, Walked


@dataclass(frozen=True, slots=True)
class Piece:
    """The nodes of one block: some values go in, in the order of reading, and one comes out."""

    name: str
    nodes: Sequence[Node]
    arrays: Arrays
    inputs: tuple[Value, ...]
    output: Value
    constants: Mapping[str, NDArray[np.generic]]
    integers: frozenset[str]
    """Those of the inputs' names that are of whole numbers."""

    @property
    def key(self) -> str:
        """Equal for pieces of equal operations on equal shapes, whatever their names and weights are."""
        seen: dict[str, int] = {}

        def told(name: str) -> object:
            if name in self.constants:
                return self.constants[name].tolist()
            number = seen.setdefault(name, len(seen))
            return [number, *self.arrays[name].shape] if name in self.arrays else number

        for value in self.inputs:
            told(value.name)
        rows = [
            [node.op, [told(name) for name in (*node.inputs, *node.outputs)], sorted(node.attributes.items())]
            for node in self.nodes
        ]
        text = json.dumps([*(value.shape for value in self.inputs), rows, told(self.output.name)])
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def whole(walked: Walked) -> Piece:
    """The network in one piece."""
    return _piece(walked, "", walked.graph.nodes, [walked.input.name], walked.output.name)


def cut(walked: Walked) -> list[Piece]:
    """The pieces of the modules that the walk was asked to find, in the order of their calls.

    Operations without parameters that follow a block and read it alone belong to it (for instance, the pooling between
    the last convolution and the classifier). So the pieces of blocks that hold every parameter make up the network, but for
    what operations without parameters make of the network's input for several blocks (a mask of its padding).

    Raises:
        LoweringError: a module is called twice, lies within another one, gives more than one tensor, or takes whole numbers
            that are not the network's input.
    """
    graph = walked.graph
    spans = _apart(walked.spans)
    pieces = []
    for i, span in enumerate(spans):
        limit = spans[i + 1].start if i + 1 < len(spans) else len(graph.nodes)
        nodes = graph.nodes[span.start : _end(graph, span, limit)]
        outside = names_read(nodes, {**graph.parameters, **graph.constants})
        later = [name for node in graph.nodes[span.start + len(nodes) :] for name in node.inputs]
        later.append(walked.output.name)
        left = dict.fromkeys(name for node in nodes for name in node.outputs if name in later)
        if not outside or len(left) != 1:
            raise LoweringError(
                f"block {span.name} takes {len(outside)} tensors and gives {len(left)}; expected some, and one"
            )
        if ({*outside, *left} - {walked.input.name}) & graph.integers:
            raise LoweringError(
                f"block {span.name} takes or gives whole numbers; expected float32, or the network's own input"
            )
        pieces.append(_piece(walked, span.name, nodes, outside, next(iter(left))))
    return pieces


def _apart(spans: Sequence[Span]) -> list[Span]:
    """The spans in order; refused where they overlap or come twice. A module that computes nothing has none."""
    ordered = sorted((span for span in spans if span.end > span.start), key=lambda span: (span.start, span.end))
    for before, after in pairwise(ordered):
        if before.name == after.name:
            raise LoweringError(f"block {before.name} is called twice; a block is called once")
        if after.start < before.end:
            raise LoweringError(f"blocks {before.name} and {after.name} lie within each other; name one of them")
    return ordered


def _end(graph: Graph, span: Span, limit: int) -> int:
    """Where a block ends, with the operations that belong to it."""
    own = {name for node in graph.nodes[span.start : span.end] for name in node.outputs}
    end = span.end
    # An optional input that is left out has no name.
    while end < limit and all(not n or n in own or n in graph.constants for n in graph.nodes[end].inputs):
        own.update(graph.nodes[end].outputs)
        end += 1
    return end


def _piece(walked: Walked, name: str, nodes: Sequence[Node], inputs: Sequence[str], output: str) -> Piece:
    graph = walked.graph
    kept, arrays = fold(graph, nodes, output)
    values = [Value(name, graph.shapes[name]) for name in (*inputs, output)]
    integers = frozenset(graph.integers.intersection(inputs))
    return Piece(name, kept, arrays, tuple(values[:-1]), values[-1], graph.constants, integers)
