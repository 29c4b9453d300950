"""Replaces lookups of each example's own row by its number, which would fix the batch, by views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from supernets.capture.program import Argument, Call, Program, Ref


def without_row_numbers(program: Program, tensors: Mapping[str, Tensor]) -> Program:
    """The program with ``x[rows, columns]`` as a view of x, where rows and columns count all of x in their order.

    Masks of attention are made so: x is (n, tokens), rows (n, 1, 1, 1) and columns (1, 1, 1, tokens).
    """
    return replace(program, calls=tuple(_viewed(program, call, tensors) for call in program.calls))


def _viewed(program: Program, call: Call, tensors: Mapping[str, Tensor]) -> Call:
    indices, source = call.arguments.get("indices"), call.arguments.get("self")
    if call.name != "index" or not isinstance(source, Ref) or not isinstance(indices, tuple):
        return call
    shape, out = program.values[source.name].shape, program.values[call.outputs[0]].shape
    if len(indices) != len(shape) or shape[0] != program.batch or out[0] != program.batch:
        return call
    if [size for size in out if size != 1] != [size for size in shape if size != 1] or not _counted(
        indices, shape, len(out), tensors
    ):
        return call
    return replace(call, op="aten.reshape.default", arguments={"self": source, "shape": tuple(out)})


def _counted(indices: Sequence[Argument], shape: Sequence[int], rank: int, tensors: Mapping[str, Tensor]) -> bool:
    """Whether each index counts its dimension along one dimension of the result, in their order."""
    before = -1
    for index, size in zip(indices, shape, strict=True):
        tensor = tensors.get(index.name) if isinstance(index, Ref) else None
        if tensor is None or not torch.equal(tensor.flatten(), torch.arange(size)):
            return False
        if size == 1:
            continue
        along = next(i for i, own in enumerate(tensor.shape) if own != 1) + rank - tensor.ndim
        if along <= before:
            return False
        before = along
    return True
