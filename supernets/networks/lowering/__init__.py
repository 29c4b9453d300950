"""Lowering of plain programs to ONNX nodes, by a table of operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from torch import Tensor

import supernets.networks.operations  # noqa: F401  # it fills the table
from supernets.errors import LoweringError
from supernets.networks.capture.program import Program, needed_calls
from supernets.networks.lowering.simplification import simplified
from supernets.networks.lowering.state import Lowering
from supernets.networks.onnx_graph.block_division import Piece, block_pieces, piece_of
from supernets.networks.onnx_graph.ir import INPUT, Value


def lowered(program: Program, tensors: Mapping[str, Tensor], names: Sequence[str] = (INPUT,)) -> Piece:
    """A program as ONNX operations, without copies of tensors.

    Args:
        program: Program of one architecture. Programs of families, which declare the dimensions of their inputs, are not
            simplified.
        tensors: its tensors, by name.
        names: Names of its inputs in the graph.

    Raises:
        LoweringError: an operation has no rule, or a shape depends on the inputs in a way that has none.
    """
    lowering = Lowering(simplified(program), tensors, names)
    for call in lowering.program.calls:
        lowering.lower(call)
    outputs = [value.name for value in _outputs(lowering)]
    return piece_of(lowering, lowering.nodes, [value.name for value in lowering.inputs], outputs)


def lowered_blocks(program: Program, tensors: Mapping[str, Tensor], blocks: Mapping[str, str]) -> list[Piece]:
    """The blocks of a program with one input as ONNX operations, in the order of their calls, without those that have none.

    What depends on parameters alone is computed in each block that reads it.

    Args:
        program, tensors: Program and its tensors, as in `lowered`.
        blocks: the names of blocks by the values that they compute.

    Raises:
        LoweringError: as of `lowered` and `block_pieces`; or a block is called twice.
    """
    lowering = Lowering(simplified(program), tensors, (INPUT,))
    program, ends = lowering.program, dict[str, tuple[int, int]]()
    state = program.state_values
    of_state = [call for call in program.calls if all(name in state for name in call.outputs if name)]
    computed = [call for call in program.calls if any(name not in state for name in call.outputs if name)]
    for block, run in groupby(computed, lambda call: blocks.get(next(filter(None, call.outputs)), "")):
        calls = list(run)
        start, read_names = len(lowering.nodes), [name for call in calls for name in call.reads()]
        written = state.union(name for call in calls for name in call.outputs)
        if outside := [name for name in read_names if name not in written]:
            lowering.begin(outside[0])
        for call in (*needed_calls(of_state, read_names), *calls):
            lowering.lower(call)
        if block and len(lowering.nodes) > start:
            if block in ends:
                text = f"block {block} is called several times; expected one call"
                raise LoweringError(text, code="export.invalid-block")
            ends[block] = (start, len(lowering.nodes))
    return block_pieces(lowering, lowering.inputs, _outputs(lowering), ends)


def _outputs(lowering: Lowering) -> list[Value]:
    """The outputs after the last call, which no input and no parameter may be."""
    outputs = list[Value]()
    for output in map(lowering.value, lowering.program.outputs):
        if output.name in lowering.integers:
            raise LoweringError("the network returns integers; expected float32", code="export.type-mismatch")
        if not lowering.nodes or output.name in lowering.parameters or output in lowering.inputs:
            output = lowering.declare(lowering.add("Identity", output).name, output.shape)
        outputs.append(output)
    return outputs
