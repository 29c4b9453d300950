"""Lowering of plain captured networks block by block, so that each can be cut out of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from torch import Tensor

from supernets.capture.lowering.state import Lowering
from supernets.capture.program import Program, needed_calls, state_values
from supernets.graph.ir import Graph, Value


def lower_blocks(
    graph: Graph, program: Program, tensors: Mapping[str, Tensor], x: Value, blocks: Mapping[str, str]
) -> Value:
    """Appends a network's nodes to a graph and marks those of each block; returns its output.

    What depends on parameters alone is computed in each block that reads it.

    Args:
        program: as of `lower_program`.
        blocks: the names of blocks by the values that they compute.

    Raises:
        LoweringError: as by `lower_program`.
    """
    state = state_values(program)
    lowering = Lowering(graph, program, tensors, x)
    of_state = [call for call in program.calls if all(name in state for name in call.outputs if name)]
    own = [call for call in program.calls if any(name not in state for name in call.outputs if name)]
    for block, run in groupby(own, lambda call: blocks[next(filter(None, call.outputs))]):
        calls = list(run)
        start, read = len(graph.nodes), [name for call in calls for name in call.reads()]
        written = state.union(name for call in calls for name in call.outputs)
        lowering.begin(next(name for name in read if name not in written))
        for call in (*needed_calls(of_state, read), *calls):
            lowering.lower(call)
        graph.marks.append((block, start, len(graph.nodes)))
    return lowering.value(program.outputs[0])
