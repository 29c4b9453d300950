"""Lowering of plain captured networks to ONNX nodes, by a table of ATen operations."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

import supernets.capture.operations  # noqa: F401  # it fills the table
from supernets.capture.lowering.by_block import lower_blocks
from supernets.capture.lowering.state import Lowering
from supernets.capture.program import Program
from supernets.errors import LoweringError
from supernets.graph.ir import Graph, Value

NO_BLOCKS: Mapping[str, str] = MappingProxyType({})


def lower_program(
    graph: Graph, program: Program, tensors: Mapping[str, Tensor], x: Value, blocks: Mapping[str, str] = NO_BLOCKS
) -> Value:
    """Appends a network's nodes to a graph; returns its output.

    Args:
        program: of one architecture, with one input and one output.
        blocks: the names of blocks by the values that they compute, to lower it block by block where the graph asks for some.

    Raises:
        LoweringError: an operation has no rule, or a shape depends on the batch in more than one dimension.
    """
    if len(program.inputs) != 1 or len(program.outputs) != 1:
        raise LoweringError("there is no rule for networks of several inputs or outputs")
    if graph.named.intersection(blocks.values()):
        return lower_blocks(graph, program, tensors, x, blocks)
    lowering = Lowering(graph, program, tensors, x)
    for call in program.calls:
        lowering.lower(call)
    return lowering.value(program.outputs[0])
