"""Modules as ONNX models, written straight from their tensors in milliseconds: whole, or block by block.

A table has a rule for each plain module; the forward of a composite class is traced by torch.fx once and kept. Whatever
has no rule is refused by name, and `supernets.onnx_export.onnx_model` then takes torch's exporter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from supernets.graph.ir import TOKENS, Shape
from supernets.graph.pieces import Piece, cut, whole
from supernets.graph.serialise import OPSET, serialise
from supernets.graph.walk import BATCH, INPUT, LENGTH_NAME, OUTPUT, walk

__all__ = [
    "BATCH",
    "INPUT",
    "LENGTH_NAME",
    "OPSET",
    "OUTPUT",
    "TOKENS",
    "BlockModel",
    "block_keys",
    "input_shape_of",
    "lower",
    "lower_blocks",
]


def input_shape_of(example: Tensor) -> Shape:
    """What `lower` takes for inputs like this one, (n, ...): `TOKENS` for whole numbers, else the shape without the batch."""
    return TOKENS if example.dtype == torch.int64 else tuple(example.shape[1:])


@dataclass(frozen=True, slots=True)
class BlockModel:
    """A block of a network as an ONNX model of its own.

    Attributes:
        name: of the block's module.
        key: equal for blocks that compute the same operations on the same shapes, wherever they stand.
        model: serialised ONNX from `INPUT` to `OUTPUT`, with a dynamic batch.
        input_shape: of one example, without the batch.
    """

    name: str
    key: str
    model: bytes = field(repr=False)
    input_shape: tuple[int, ...]


def lower(module: nn.Module, input_shape: Sequence[int]) -> bytes:
    """A serialised ONNX model with a dynamic batch; batch norms are folded into convolutions and linear layers.

    Args:
        module: in eval mode, of float32 tensors; a live subnet will do.
        input_shape: of one example, without the batch; or `TOKENS`: token ids, in sentences of any length.

    Raises:
        LoweringError: the module is in training mode, or holds an operation that has no rule; the text names it.
    """
    return _serialise(whole(walk(module, input_shape)))


def lower_blocks(module: nn.Module, input_shape: Sequence[int], names: Sequence[str]) -> list[BlockModel]:
    """Those of the named blocks that the module has, in the order of their calls, with their real input shapes.

    Operations without parameters that follow a block belong to it. A block that computes nothing is left out.

    Raises:
        LoweringError: as of `lower`; or a block is not one tensor in and one out, or is called twice.
    """
    pieces = cut(walk(module, input_shape, names))
    return [BlockModel(piece.name, piece.key, _serialise(piece), piece.input_shape[1:]) for piece in pieces]


def block_keys(module: nn.Module, input_shape: Sequence[int], names: Sequence[str]) -> dict[str, str]:
    """The keys of `lower_blocks` by block, without the models.

    Raises:
        LoweringError: as of `lower_blocks`.
    """
    return {piece.name: piece.key for piece in cut(walk(module, input_shape, names))}


def _serialise(piece: Piece) -> bytes:
    return serialise(
        piece.nodes,
        piece.arrays,
        input=(piece.input, INPUT, piece.input_shape),
        output=(piece.output, OUTPUT, piece.output_shape),
        batch=BATCH,
        length=LENGTH_NAME,
        integers=piece.integers,
    )
