"""Lowering of plain programs to ONNX nodes, by a table of operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

from torch import Tensor

import supernets.networks.operations  # noqa: F401  # it fills the table
from supernets.errors import LoweringError
from supernets.networks.capture.program import Program, needed_calls, state_values
from supernets.networks.lowering.simplification import simplified
from supernets.networks.lowering.state import Lowering, marked_shape
from supernets.networks.onnx_graph.block_division import Span, Walked
from supernets.networks.onnx_graph.ir import INPUT, Graph, Value

NO_BLOCKS: Mapping[str, str] = MappingProxyType({})


def lowered(
    program: Program,
    tensors: Mapping[str, Tensor],
    names: Sequence[str] = (INPUT,),
    blocks: Mapping[str, str] = NO_BLOCKS,
) -> Walked:
    """A program as a graph of ONNX operations, without copies of tensors.

    Args:
        program: of one architecture. Those of families, which declare the dimensions of their inputs, are not simplified.
        tensors: its tensors, by name.
        names: of its inputs in the graph.
        blocks: the names of blocks by the values that they compute; then each block can be cut out of the graph: what depends
            on parameters alone is computed in each block that reads it.

    Raises:
        LoweringError: an operation has no rule, or a shape depends on the inputs in a way that has none.
    """
    graph, program = Graph(), program if program.input_dims else simplified(program)
    inputs = tuple(
        graph.input(name, marked_shape(program, value), integer="int" in program.values[value].dtype)
        for name, value in zip(names, program.inputs, strict=True)
    )
    lowering = Lowering(graph, program, tensors, *inputs)
    if blocks:
        spans = _lower_blocks(lowering, blocks)
    else:
        spans = ()
        for call in program.calls:
            lowering.lower(call)
    return Walked(graph, inputs, tuple(_output(graph, lowering.value(name), inputs) for name in program.outputs), spans)


def _output(graph: Graph, output: Value, inputs: Sequence[Value]) -> Value:
    """An output of the graph, which no input and no parameter may be."""
    if output.name in graph.integers:
        raise LoweringError("the network returns integers; expected float32", code="export.type-mismatch")
    if not graph.nodes or output.name in graph.parameters or output in inputs:
        return graph.add("Identity", [output], output.shape)
    return output


def _lower_blocks(lowering: Lowering, blocks: Mapping[str, str]) -> tuple[Span, ...]:
    """Appends a network's nodes block by block; returns the nodes of each block."""
    graph, program, spans = lowering.graph, lowering.program, list[Span]()
    state = state_values(program)
    of_state = [call for call in program.calls if all(name in state for name in call.outputs if name)]
    computed = [call for call in program.calls if any(name not in state for name in call.outputs if name)]
    for block, run in groupby(computed, lambda call: blocks.get(next(filter(None, call.outputs)), "")):
        calls = list(run)
        start, read_names = len(graph.nodes), [name for call in calls for name in call.reads()]
        written = state.union(name for call in calls for name in call.outputs)
        if outside := [name for name in read_names if name not in written]:
            lowering.begin(outside[0])
        for call in (*needed_calls(of_state, read_names), *calls):
            lowering.lower(call)
        if block:
            spans.append(Span(block, start, len(graph.nodes)))
    return tuple(spans)
