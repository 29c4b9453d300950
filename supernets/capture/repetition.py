"""Constants that a forward made for the batch of its example: kept for one example, and repeated for any batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from supernets.axes import Dim
from supernets.capture.adoption import adopt
from supernets.capture.program import BATCH, Argument, Call, Program, Ref, ValueSpec
from supernets.errors import CaptureError


def repeated_for_batches(program: Program, tensors: Mapping[str, Tensor]) -> tuple[Program, dict[str, Tensor]]:
    """The program with constants that have a row, or several, for each example reduced to those of one.

    Which constants these are follows from the operations that read them (a mask of attention for each window of each
    image, positions of each token): their first dimension is the batch, or the batch times something.

    Raises:
        CaptureError: such a constant differs between the examples.
    """
    shapes = adopt(program).dims
    found = dict(tensors)
    values, calls, renamed = dict(program.values), list[Call](), dict[str, str]()
    for name in program.tensors:
        if name in program.trainable or not shapes[name] or not _repeats(shapes[name][0]):
            continue
        rows, own = len(tensors[name]) // program.batch, tensors[name]
        parts = own.split(rows)
        if any(not part.equal(parts[0]) for part in parts[1:]):
            text = f"{name} has the batch as its first dimension, and differs between examples"
            raise CaptureError(f"{text}: compute it from the inputs", code="capture.example")
        found[name], renamed[name] = parts[0].clone(), f"%{name}"
        values[f"%{name}"], values[name] = values[name], ValueSpec(tuple(parts[0].shape), values[name].dtype)
        repeats = (program.batch, *(1 for _ in own.shape[1:]))
        calls.append(Call("aten.repeat.default", {"self": Ref(name), "repeats": repeats}, (f"%{name}",)))
    if not calls:
        return program, found
    calls += [
        replace(call, arguments={name: _renamed(own, renamed) for name, own in call.arguments.items()})
        for call in program.calls
    ]
    return replace(program, calls=tuple(calls), values=values), found


def _repeats(dim: Dim) -> bool:
    """Whether a dimension is the batch, or the batch times something."""
    return dim == BATCH or (isinstance(dim, tuple) and dim[0] == BATCH)


def _renamed(argument: Argument, names: Mapping[str, str]) -> Argument:
    if isinstance(argument, Ref):
        return Ref(names.get(argument.name, argument.name))
    return tuple(_renamed(part, names) for part in argument) if isinstance(argument, tuple) else argument
