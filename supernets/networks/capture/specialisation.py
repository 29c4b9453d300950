"""One network of a captured program: its calls with plain sizes, and without the branches that it lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from supernets.networks.capture.branches import Branch
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.program import Argument, Call, Program, Size, ValueSpec, replacement
from supernets.space.axes import Dim, axes_in, size_of


def specialised(elastic: ElasticProgram, sizes: Mapping[str, int], dropped: Collection[Branch] = ()) -> Program:
    """The program of a network with these axis sizes.

    Sizes that depend on the inputs stay `Size`; in shapes, they are those of the captured inputs.

    Args:
        dropped: the branches that are left out; what only these return or read is no output or input any more.
    """
    program = elastic.program
    dropped_calls: set[int] = set()
    renamed: dict[str, str] = {}
    for branch in dropped:
        dropped_calls.update(branch.calls, [branch.sum])
        renamed[program.calls[branch.sum].outputs[0]] = branch.skip

    lengths = elastic.lengths.keys()

    def plain(argument: Argument) -> Argument:
        match argument:
            case Size(dim):
                return Size(_fix_axes(dim, sizes)) if axes_in(dim) & lengths else int(size_of(dim, sizes))
            case tuple():
                return tuple(map(plain, argument))
        return argument

    calls: list[tuple[Call, frozenset[str]]] = []  # with what they read
    for index, call in enumerate(program.calls):
        if index in dropped_calls:
            continue
        reads = elastic.reads[index]
        if not reads.isdisjoint(renamed):
            call = call.reading(renamed)
            reads = frozenset(call.reads())
        if index in elastic.sized_calls:
            call = replace(call, arguments={name: plain(argument) for name, argument in call.arguments.items()})
        calls.append((call, reads))
    lost = {name for index in dropped_calls for name in program.calls[index].outputs} - renamed.keys()
    outputs = tuple(replacement(name, renamed) for name in program.outputs if name not in lost)
    used, needed_calls = set(outputs), list[Call]()
    for call, reads in reversed(calls):
        if not used.isdisjoint(call.outputs):
            used |= reads
            needed_calls.append(call)
    needed_calls.reverse()
    unread = {name for index in dropped_calls for name in elastic.reads[index]} - used
    tensors = tuple(name for name in program.tensors if name in used)
    full = {**sizes, **elastic.lengths}
    names = {*program.inputs, *tensors, *outputs, *(name for call in needed_calls for name in call.outputs if name)}
    values = {
        name: ValueSpec(tuple(int(size_of(dim, full)) for dim in elastic.shapes[name]), program.values[name].dtype)
        if name in elastic.sized_values
        else program.values[name]
        for name in names
    }
    dynamic = {
        name: {i: _length_name(dim, lengths, sizes) for i, dim in dims.items()}
        for name, dims in elastic.dynamic_dims.items()
        if name in values
    }
    if program.padding is not None:  # shorter sentences are padded
        dynamic[program.inputs[0]] = {0: "batch", 1: "tokens"}
    return replace(
        program,
        inputs=tuple(name for name in program.inputs if name not in unread),
        values=values,
        dynamic=dynamic,
        calls=tuple(needed_calls),
        outputs=outputs,
        tensors=tensors,
        trainable=program.trainable & frozenset(tensors),
        aliases={alias: name for alias, name in program.aliases.items() if name in used},
    )


def _length_name(dim: Dim, lengths: Collection[str], sizes: Mapping[str, int]) -> str:
    """The name of the size that inputs decide in a dimension, with what it is multiplied by, as ``tokens`` or ``2 tokens``."""
    if isinstance(dim, str):
        return dim
    name = min(axes_in(dim).intersection(lengths))
    factor = int(size_of(dim, {**sizes, **dict.fromkeys(lengths, 1)}))
    return name if factor == 1 else f"{factor} {name}"


def _fix_axes(dim: Dim, sizes: Mapping[str, int]) -> Dim:
    """A dimension in which only sizes that inputs decide are symbolic."""
    if isinstance(dim, str):
        return sizes.get(dim, dim)
    if isinstance(dim, tuple):
        return tuple(_fix_axes(part, sizes) for part in dim)
    return dim if isinstance(dim, int) or axes_in(dim) - sizes.keys() else int(size_of(dim, sizes))
