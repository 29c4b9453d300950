"""Makes captured programs run for any batch: lookups of own rows become views, and constants of each example one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from supernets.errors import CaptureError
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.program import BATCH, Argument, Call, Program, Ref, ValueSpec
from supernets.space.axes import Dim


def without_row_numbers(program: Program, tensors: Mapping[str, Tensor]) -> Program:
    """The program with ``x[rows, columns]`` as a view of x, where rows and columns count all of x in their order.

    Masks of attention are made so: x is (n, tokens), rows (n, 1, 1, 1) and columns (1, 1, 1, tokens).
    """
    return replace(program, calls=tuple(_index_as_view(program, call, tensors) for call in program.calls))


def _index_as_view(program: Program, call: Call, tensors: Mapping[str, Tensor]) -> Call:
    indices, source = call.arguments.get("indices"), call.arguments.get("self")
    if call.name != "index" or not isinstance(source, Ref) or not isinstance(indices, tuple):
        return call
    shape, out = program.values[source.name].shape, program.values[call.outputs[0]].shape
    if len(indices) != len(shape) or shape[0] != program.batch or out[0] != program.batch:
        return call
    if [size for size in out if size != 1] != [size for size in shape if size != 1] or not _counts_dimensions(
        indices, shape, len(out), tensors
    ):
        return call
    return replace(call, op="aten.reshape.default", arguments={"self": source, "shape": tuple(out)})


def _counts_dimensions(
    indices: Sequence[Argument], shape: Sequence[int], rank: int, tensors: Mapping[str, Tensor]
) -> bool:
    """Returns whether each index counts its dimension along one dimension of the result, in their order."""
    before = -1
    for index, size in zip(indices, shape, strict=True):
        tensor = tensors.get(index.name) if isinstance(index, Ref) else None
        if tensor is None or not torch.equal(tensor.flatten(), torch.arange(size)):
            return False
        if size == 1:
            continue
        along = next(i for i, length in enumerate(tensor.shape) if length != 1) + rank - tensor.ndim
        if along <= before:
            return False
        before = along
    return True


def repeated_for_batches(program: Program, tensors: Mapping[str, Tensor]) -> tuple[Program, dict[str, Tensor]]:
    """The program with constants that have a row, or several, for each example reduced to those of one.

    Which constants these are follows from the operations that read them (a mask of attention for each window of each
    image, positions of each token, states of recurrent layers): a dimension is the batch, or the batch times something.

    Raises:
        CaptureError: such a constant differs between the examples.
    """
    shapes = infer_axes(program).dims
    reduced_tensors = dict(tensors)
    values, calls, renamed = dict(program.values), list[Call](), dict[str, str]()
    for name in program.tensors:
        position = next((i for i, dim in enumerate(shapes[name]) if _is_multiple_of_batch(dim)), None)
        if name in program.trainable or position is None:
            continue
        tensor = tensors[name]
        parts = tensor.split(tensor.shape[position] // program.batch, dim=position)
        if any(not part.equal(parts[0]) for part in parts[1:]):
            reader = next(call for call in program.calls if name in call.reads())
            at = f" (at {reader.place})" if reader.place else ""
            raise CaptureError(
                f"{name}, which {reader.name} in {reader.module or 'the network'} reads{at}, has the batch as a dimension, and "
                "differs between examples: compute it from the inputs; for one row of each example, in place of "
                "x[torch.arange(len(x)), i], use torch.gather",
                code="capture.example",
            )
        first = parts[0].transpose(0, position).clone(memory_format=torch.contiguous_format)
        reduced_tensors[name], renamed[name], dtype = first, f"%{name}", values[name].dtype
        repeated_spec = ValueSpec((first.shape[0] * program.batch, *first.shape[1:]), dtype)
        values[f"%{name}"], values[name] = values[name], ValueSpec(tuple(first.shape), dtype)
        repeats, moved = (program.batch, *(1 for _ in tensor.shape[1:])), f"%{name}.moved"
        calls.append(
            Call("aten.repeat.default", {"self": Ref(name), "repeats": repeats}, (moved if position else f"%{name}",))
        )
        if position:
            values[moved] = repeated_spec
            calls.append(Call("aten.transpose.int", {"self": Ref(moved), "dim0": 0, "dim1": position}, (f"%{name}",)))
    if not calls:
        return program, reduced_tensors
    calls += [call.reading(renamed) for call in program.calls]
    return replace(program, calls=tuple(calls), values=values), reduced_tensors


def _is_multiple_of_batch(dim: Dim) -> bool:
    """Returns whether a dimension is the batch, or the batch times something."""
    return dim == BATCH or (isinstance(dim, tuple) and dim[0] == BATCH)
