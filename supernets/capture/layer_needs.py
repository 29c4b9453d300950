"""What axes need: the layers without which no call of a captured network has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from supernets.axes import axes_in
from supernets.capture.adoption import Adopted
from supernets.capture.program import Argument, Call, Size, state_sources


class Need(NamedTuple):
    """A number of layers of a group that a network must keep, of so many that it may leave out."""

    group: str
    layers: int
    of: int


class LayerNeeds:
    """The layers that the axes of a captured network need.

    Args:
        groups: indices of units in the order in which they are kept, by group.
    """

    def __init__(self, adopted: Adopted, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = groups
        self._around: dict[int, list[tuple[str, int]]] = {}
        """For each call that may be left out, the groups of the layers around it, with its layer's position in the order."""
        for group, units in groups.items():
            for position, unit in enumerate(units):
                for call in {call for i in adopted.units[unit].branches for call in adopted.branches[i].calls}:
                    self._around.setdefault(call, []).append((group, position))
        self._calls = _calls_by_axis(adopted)

    def of(self, axes: Sequence[str]) -> Need | None:
        """What some axes need together; None if every network has one of them, or if they are in layers of several groups."""
        around = [self._around.get(call, []) for axis in axes for call in self._calls.get(axis, ())]
        names = {group for layers in around for group, _ in layers}
        if len(names) != 1 or not all(around):
            return None
        (group,) = names
        first = min(max(position for _, position in layers) for layers in around)
        return Need(group, first + 1, len(self._groups[group]))


def _calls_by_axis(adopted: Adopted) -> dict[str, list[int]]:
    """The calls on values that depend on the inputs whose computation has each axis."""
    program, found = adopted.program, dict[str, list[int]]()
    sources = state_sources(program)
    for index, call in enumerate(program.calls):
        if all(name in sources for name in call.outputs if name):
            continue
        names = {own for name in call.reads() for own in sources.get(name, (name,))} | set(filter(None, call.outputs))
        axes = {axis for name in names for dim in adopted.shapes[name] for axis in axes_in(dim)} | set(_of_sizes(call))
        for axis in axes:
            found.setdefault(axis, []).append(index)
    return found


def _of_sizes(call: Call) -> Iterator[str]:
    """The axes in the sizes among the arguments of a call."""
    left: list[Argument] = list(call.arguments.values())
    while left:
        match left.pop():
            case Size(dim):
                yield from axes_in(dim)
            case tuple() as parts:
                left += parts
