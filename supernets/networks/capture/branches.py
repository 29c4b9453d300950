"""Residual branches of a captured program: calls that can be left out, so that a network becomes shallower."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from supernets.errors import SpaceError
from supernets.networks.capture.program import Call, Program, Ref, is_constant, replacement
from supernets.space.axes import Dim

_INDEX = re.compile(r"(?:^|(?<=\.))\d+(?=\.|$)|(?<=_)\d+(?=\.|$)|(?<=[a-z])\d+(?=\.|$)")
"""The position of a layer in its container, in a module's path: ``layers.3``, ``layer_3`` or ``block3``."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A residual branch: where it is left out, the sum at its end is its other operand.

    Attributes:
        calls: indices of its calls, without the sum.
        sum: index of the call that adds it.
        skip: name of the value to which it is added.
    """

    calls: tuple[int, ...]
    sum: int
    skip: str


def residual_branches(program: Program) -> list[Branch]:
    """The branches between a value and a sum with that value, with no other way out, in the order of their sums."""
    producer = {name: index for index, call in enumerate(program.calls) for name in call.outputs if name}
    consumers = program.consumers()
    state = program.state_values
    branches = []
    for index, call in enumerate(program.calls):
        if call.name != "add" or call.arguments.get("alpha", 1) != 1:
            continue
        operands = (call.arguments["self"], call.arguments["other"])
        if not all(isinstance(operand, Ref) for operand in operands):
            continue
        a, b = (operand.name for operand in operands if isinstance(operand, Ref))
        if program.values[a].shape != program.values[b].shape or a == b:
            continue
        for skip, end in ((a, b), (b, a)):
            calls = _region(program, end, skip, index, producer, consumers, state)
            if calls:
                branches.append(Branch(calls, index, skip))
                break
    return branches


def _region(
    program: Program,
    end: str,
    skip: str,
    total: int,
    producer: Mapping[str, int],
    consumers: Mapping[str, Sequence[int]],
    state: frozenset[str],
) -> tuple[int, ...]:
    """The calls between `skip` and `end`, if nothing else enters or leaves; else ()."""
    region: set[int] = set()
    pending = [end]
    reaches = False
    while pending:
        name = pending.pop()
        if name == skip:
            reaches = True
            continue
        if name in state:
            continue
        if name not in producer:
            return ()
        index = producer[name]
        if index not in region:
            region.add(index)
            pending.extend(program.calls[index].reads())
    if not reaches or skip in state or producer.get(skip, -1) in region:
        return ()
    for index in region:
        for name in program.calls[index].outputs:
            if name in program.outputs or any(user not in region and user != total for user in consumers.get(name, ())):
                return ()
            if name and name != end and total in consumers.get(name, ()):
                return ()
    return tuple(sorted(region))


def module_branches(program: Program, path: str, shapes: Mapping[str, tuple[Dim, ...]]) -> list[Branch]:
    """The calls of a module as branches, in whose place its inputs go on: one for each time that it is called.

    Args:
        shapes: the dimensions of every value; the input that goes on is the first one that has those of the output.

    Raises:
        SpaceError: a call of the module returns several values that others read, or no input has the dimensions of the output.
    """
    calls = [i for i, call in enumerate(program.calls) if call.module == path or call.module.startswith(f"{path}.")]
    return [_module_branch(program, path, shapes, region) for region in _connected(program, calls)]


def _connected(program: Program, calls: Sequence[int]) -> list[list[int]]:
    """Calls in groups that share no values but the tensors of the network."""
    regions: list[tuple[list[int], set[str]]] = []
    for index in calls:
        names = {*program.calls[index].reads(), *program.calls[index].outputs}.difference(program.tensors)
        joined = [region for region in regions if not region[1].isdisjoint(names)]
        regions = [region for region in regions if region[1].isdisjoint(names)]
        regions.append(([*(i for indices, _ in joined for i in indices), index], names.union(*(n for _, n in joined))))
    return [sorted(indices) for indices, _ in regions]


def _module_branch(program: Program, path: str, shapes: Mapping[str, tuple[Dim, ...]], calls: Sequence[int]) -> Branch:
    within, state = set(calls), program.state_values
    consumers = program.consumers()
    computed = [name for i in calls for name in program.calls[i].outputs if name]
    read_names = [
        name for i in calls for name in program.calls[i].reads() if name not in computed and name not in state
    ]
    results = [name for name in computed if any(user not in within for user in consumers.get(name, ()))]
    results = results or [name for name in computed if name in program.outputs]
    skips = (
        [name for name in dict.fromkeys(read_names) if shapes[name] == shapes[results[0]]] if len(results) == 1 else []
    )
    if not skips:
        problem = f"{path} cannot be left out: {len(results)} of its values are read by others, expected one of an input's dims"
        raise SpaceError(problem, code="family.inconsistent")
    end = next(i for i in calls if results[0] in program.calls[i].outputs)
    return Branch(tuple(calls), end, skips[0])


def sums(program: Program) -> list[Branch]:
    """The sums of two values of a program, each as a branch without calls in whose place the first value goes on."""
    branches = []
    for index, call in enumerate(program.calls):
        if call.name == "add" and call.arguments.get("alpha", 1) == 1:
            first, *others = call.reads()
            branches += [Branch((), index, first)] if len(others) == 1 else []
    return branches


def sums_without_branch(program: Program, every_sum: Sequence[Branch], dropped: Sequence[Branch]) -> list[Branch]:
    """The sums of a value and a residual branch whose calls are all left out: in the place of each, the value goes on.

    Args:
        every_sum: The `sums` of the program.
        dropped: Branches that are left out, for instance the norm and the attention of a layer.
    """
    skips = {program.calls[branch.sum].outputs[0]: branch.skip for branch in dropped}
    lost, lone_sums = {i for branch in dropped for i in (*branch.calls, branch.sum)}, list[Branch]()
    for branch in every_sum if skips else ():
        call = program.calls[branch.sum]
        first, second = call.reads()
        if branch.sum not in lost and first != second and replacement(first, skips) == replacement(second, skips):
            lone_sums.append(branch)
            skips[call.outputs[0]] = branch.skip
    return lone_sums


@dataclass(frozen=True, slots=True)
class Unit:
    """Branches of one layer, which are left out together.

    Attributes:
        name: path of the layer, e.g. ``layer1.2`` or ``encoder.layers.encoder_layer_3``.
        container: the path with a star for the layer's position, the same for all layers that may be left out one by one.
        branches: indices into `residual_branches`.
    """

    name: str
    container: str
    branches: tuple[int, ...]


def depth_units(program: Program, branches: Sequence[Branch]) -> list[Unit]:
    """The layers that consist of residual branches, in order.

    A layer is the longest common path of a branch's modules, up to its last position in a container.
    """
    units: dict[str, list[int]] = {}
    for i, branch in enumerate(branches):
        path = common_path(_paths([program.calls[c] for c in branch.calls]))
        units.setdefault(layer_of(path) or path, []).append(i)
    return [Unit(name, starred(name), tuple(indices)) for name, indices in units.items()]


def starred(path: str) -> str:
    """A path with stars in place of positions."""
    return _INDEX.sub("*", path)


def layer_of(path: str) -> str:
    """A path up to its last position in a container; "" if it has none."""
    positions = list(_INDEX.finditer(path))
    return path[: positions[-1].end()] if positions else ""


def common_path(paths: Iterable[str]) -> str:
    """The longest path that all paths begin with; "" if there is none."""
    parts = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, parts))


def _paths(calls: Sequence[Call]) -> Iterator[str]:
    """The modules of some calls, and the owners of their tensors."""
    yield from (call.module for call in calls if call.module)
    for call in calls:
        for name in call.reads():
            if not name.startswith("%") and not is_constant(name):
                yield name.rpartition(".")[0]
