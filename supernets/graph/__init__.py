"""Lowering of modules to ONNX models in milliseconds, whole or block by block.

A table has a rule for each plain module; torch.fx traces the forward of each composite class once. A module or operation
without a rule raises `LoweringError`, and `supernets.module_to_onnx.onnx_model` then uses torch's exporter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from supernets.graph.block_division import Piece, cut, whole, with_transposed_weights
from supernets.graph.ir import BATCH_SIZE, CONTEXT, INPUT, LENGTH, MEMORIES, OUTPUT, PAST, ROOM, TOKENS, Shape
from supernets.graph.serialise import OPSET, serialise
from supernets.graph.traversal import BATCH, LENGTH_NAME, Input, walk, walk_inputs

__all__ = [
    "BATCH", "BATCH_SIZE", "CONTEXT", "INPUT", "LENGTH", "LENGTH_NAME", "MEMORIES", "OPSET", "OUTPUT", "PAST", "ROOM", "TOKENS",
    "BlockInput", "BlockModel", "Input", "block_keys", "input_shape_of", "lower", "lower_blocks", "lower_inputs",
]  # fmt: skip


def input_shape_of(example: Tensor) -> Shape:
    """The argument of `lower` for inputs like this one, (n, ...): `TOKENS` for integers, else the shape without the batch."""
    return TOKENS if example.dtype == torch.int64 else tuple(example.shape[1:])


class BlockInput(NamedTuple):
    """An input of a block.

    Attributes:
        name: in the block's model.
        shape: of one example, without the batch; `LENGTH` stands for the number of tokens.
        integer: whether it is the network's input of token ids; else it is float32.
    """

    name: str
    shape: Shape
    integer: bool = False


@dataclass(frozen=True, slots=True)
class BlockModel:
    """A block of a network as a separate ONNX model.

    Attributes:
        name: of the block's module.
        key: equal for blocks with the same operations on the same shapes, anywhere in a network.
        model: serialised ONNX from its inputs to `OUTPUT`, with a dynamic batch.
        inputs: in the order of reading. The first, named `INPUT`, is the output of the previous block; others are shared by
            several blocks (a mask).
    """

    name: str
    key: str
    model: bytes = field(repr=False)
    inputs: tuple[BlockInput, ...]


def lower(module: nn.Module, input_shape: Sequence[int]) -> bytes:
    """A serialised ONNX model with a dynamic batch; batch norms are folded into convolutions and linear layers.

    Args:
        module: in eval mode, with float32 tensors; may be a live subnet.
        input_shape: of one example, without the batch; or `TOKENS` for token ids in sentences of any length.

    Raises:
        LoweringError: the module is in training mode, or has an operation without a rule; the message names it.
    """
    return serialise(whole(walk(module, input_shape)), [INPUT])


def lower_inputs(module: nn.Module, inputs: Sequence[Input], outputs: Sequence[str]) -> bytes:
    """A serialised ONNX model of several inputs and outputs.

    Args:
        module: as of `lower`.
        inputs: in the order of its forward's arguments.
        outputs: names of what it returns, in order.

    Raises:
        LoweringError: as in `lower`.
    """
    piece = with_transposed_weights(whole(walk_inputs(module, inputs)))
    return serialise(piece, [own.name for own in inputs], outputs)


def lower_blocks(
    module: nn.Module, input_shape: Sequence[int], names: Sequence[str], *, only: Sequence[str] | None = None
) -> list[BlockModel]:
    """The module's blocks among the named ones, in the order of their calls.

    Parameter-free operations that follow a block belong to it. Blocks without operations are omitted.

    Args:
        only: the names whose models to write; None for all.

    Raises:
        LoweringError: as in `lower`; or a block returns more than one tensor, or is called twice.
    """
    pieces = cut(walk(module, input_shape, names))
    return [_block_model(piece) for piece in pieces if only is None or piece.name in only]


def block_keys(module: nn.Module, input_shape: Sequence[int], names: Sequence[str]) -> dict[str, str]:
    """The keys of `lower_blocks` by block, without the models; raises its errors."""
    return {piece.name: piece.key for piece in cut(walk(module, input_shape, names))}


def _block_model(piece: Piece) -> BlockModel:
    inputs = tuple(
        BlockInput(f"{INPUT}_{i}" if i else INPUT, value.shape[1:], value.name in piece.integers)
        for i, value in enumerate(piece.inputs)
    )
    return BlockModel(piece.name, piece.key, serialise(piece, [own.name for own in inputs]), inputs)
