"""One network of a captured program: its calls with plain sizes, and without the branches that it lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from supernets.networks.capture.branches import Branch
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.program import Argument, Call, Program, Size, ValueSpec, replacement
from supernets.space.axes import Dim, axes_in, size_of


@dataclass(frozen=True, slots=True)
class Remainder:
    """The remainder of a program without some of its branches.

    Attributes:
        calls: indices of the calls on which its outputs depend, in order.
        inputs: names of the inputs, without those that only dropped calls read.
        outputs: names of the outputs, without those that only dropped calls return.
        used: names of the values that these calls read, and of the outputs.
        skips: the values that stand for the sums of the branches, by the sums' names.
    """

    calls: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    used: frozenset[str]
    skips: Mapping[str, str]


def without_branches(elastic: ElasticProgram, dropped: Collection[Branch]) -> Remainder:
    """The remainder of a program without these branches."""
    program = elastic.program
    dropped_calls: set[int] = set()
    skips: dict[str, str] = {}
    for branch in dropped:
        dropped_calls.update(branch.calls, [branch.sum])
        skips[program.calls[branch.sum].outputs[0]] = branch.skip
    lost = {name for index in dropped_calls for name in program.calls[index].outputs} - skips.keys()
    outputs = tuple(replacement(name, skips) for name in program.outputs if name not in lost)
    used, calls = set(outputs), list[int]()
    for index in reversed(range(len(program.calls))):
        if index not in dropped_calls and not used.isdisjoint(program.calls[index].outputs):
            used.update(replacement(name, skips) for name in elastic.reads[index])
            calls.append(index)
    unread = {name for index in dropped_calls for name in elastic.reads[index]} - used
    inputs = tuple(name for name in program.inputs if name not in unread)
    return Remainder(tuple(reversed(calls)), inputs, outputs, frozenset(used), skips)


def specialised(elastic: ElasticProgram, sizes: Mapping[str, int], dropped: Collection[Branch] = ()) -> Program:
    """The program of a network with these axis sizes.

    Sizes that depend on the inputs stay `Size`; in shapes, they are those of the captured inputs.

    Args:
        dropped: the branches that are left out; what only these return or read is no output or input any more.
    """
    program, remainder, lengths = elastic.program, without_branches(elastic, dropped), elastic.lengths.keys()

    def plain(argument: Argument) -> Argument:
        match argument:
            case Size(dim):
                return Size(_fix_axes(dim, sizes)) if axes_in(dim) & lengths else int(size_of(dim, sizes))
            case tuple():
                return tuple(map(plain, argument))
        return argument

    calls: list[Call] = []
    for index in remainder.calls:
        call = program.calls[index]
        if not elastic.reads[index].isdisjoint(remainder.skips):
            call = call.reading(remainder.skips)
        if index in elastic.sized_calls:
            call = replace(call, arguments={name: plain(argument) for name, argument in call.arguments.items()})
        calls.append(call)
    used, outputs = remainder.used, remainder.outputs
    tensors = tuple(name for name in program.tensors if name in used)
    full = {**sizes, **elastic.lengths}
    names = {*program.inputs, *tensors, *outputs, *(name for call in calls for name in call.outputs if name)}
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
        inputs=remainder.inputs,
        values=values,
        dynamic=dynamic,
        calls=tuple(calls),
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
