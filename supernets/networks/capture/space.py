"""The search space of a captured network: widths of groups of axes, and depths of groups of layers."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, cast, get_args

from supernets.errors import SpaceError
from supernets.networks.capture.branches import starred
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.model_names import FRACTIONS
from supernets.networks.capture.program import Ref, state_sources
from supernets.space import SEPARATOR, Architecture, Choice, SearchSpace
from supernets.space.axes import axes_in
from supernets.space.choice_titles import Group, titles_of_groups

Granularity = Literal["layer", "stage", "model"]
_MOST = 5
"""Reasons that an error lists."""
_MULTIPLE = 8
"""Channels that runtimes compute together; also safe for torch's gradients of narrow strided 1x1 convolutions."""


@dataclass(frozen=True, slots=True)
class SpaceOptions:
    """How the axes of a captured network become choices.

    Attributes:
        granularity: one choice for each axis or layer; for all of a stage that are alike (the same place in repeated layers,
            and the same size); or one for all widths and one for all depths.
        widths: fractions of the original size, ascending, the last one 1.
        keep: patterns of axes and layers that stay as they are, e.g. ``head.*``.
        multiple: sizes of at least twice this are rounded to its multiples.
    """

    granularity: Granularity = "stage"
    widths: tuple[float, ...] = FRACTIONS
    keep: tuple[str, ...] = ()
    multiple: int = _MULTIPLE

    def __post_init__(self) -> None:
        if (
            not self.widths
            or list(self.widths) != sorted(set(self.widths))
            or self.widths[-1] != 1
            or self.widths[0] <= 0
        ):
            raise SpaceError(f"widths: expected ascending fractions above 0 that end with 1, got {list(self.widths)}")
        if self.granularity not in get_args(Granularity):
            expected = ", ".join(get_args(Granularity))
            raise SpaceError(f"granularity: expected one of {expected}, got {self.granularity!r}")

    def keeps(self, name: str) -> bool:
        """Returns whether an axis or a layer stays as it is."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.keep)


@dataclass(frozen=True, slots=True)
class ChoiceMembers:
    """A choice with what it changes.

    Attributes:
        title: What it decides on, for people; see `supernets.space.choice_titles`.
        kind: width, or depth.
        options: fractions of the width, or numbers of layers that are kept.
        members: the axes, or the layers in the order in which they are kept.
        sizes: Sizes of the axes by option, for a width; all have the same original size unless the choice is one for the model.
    """

    name: str
    title: str
    kind: Literal["width", "depth"]
    options: tuple[float, ...]
    members: tuple[str, ...]
    sizes: tuple[int, ...] = ()


def elastic_axes(elastic: ElasticProgram, options: SpaceOptions) -> list[str]:
    """The axes that may become smaller: those that the options do not keep."""
    return [name for name in elastic.axes if not options.keeps(name) and not options.keeps(stage_of(elastic, name))]


def stage_of(elastic: ElasticProgram, axis: str) -> str:
    """The name of an axis's choice of its stage, as inspections have it in JSON."""
    return f"{starred(axis)}.{elastic.axes[axis].size}"


class CapturedSpace:
    """The choices of a captured network, and what they mean for its axes and branches."""

    def __init__(self, elastic: ElasticProgram, options: SpaceOptions) -> None:
        self._elastic, self._options = elastic, options
        self._check_kept()
        self._widths = {name: axes for name, axes in self._width_groups().items() if self._width_options(axes)}
        self._depths = self._depth_groups()
        titles = self._titles()
        choices = [
            Choice(name, _depths(len(units)), title=titles[name], members=self._layers(units))
            for name, units in self._depths.items()
        ]
        around, calls_by_axis = self._layers_around(), _calls_by_axis(elastic)
        for name, axes in self._widths.items():
            layers = [around.get(call, []) for axis in axes for call in calls_by_axis.get(axis, ())]
            options_of_width, required = self._width_options(axes), self._required(layers)
            choices.append(Choice(name, options_of_width, required, title=titles[name], members=tuple(axes)))
        if not choices:
            reasons = "".join(
                f"\n  {reason}: {', '.join(names[:3])}" for reason, names in list(elastic.fixed.items())[:_MOST]
            )
            keep_hint = "; keep names fewer of them" if options.keep else ""
            raise SpaceError(
                "the network has no elastic axis and no layer that may be left out"
                f"{keep_hint or '; expected a layer between the first and the last one, or other widths'}; fixed, and why:"
                f"{reasons or ' it has no parameters'}",
                code="capture.nothing-elastic",
            )
        self.space = SearchSpace(choices)

    def _check_kept(self) -> None:
        """Raises `SpaceError` for a pattern of `keep` that matches nothing in the network."""
        names = [
            *self._elastic.axes,
            *(stage_of(self._elastic, axis) for axis in self._elastic.axes),
            *self._elastic.program.tensors,
        ]
        names += [unit.name for unit in self._elastic.units]
        for pattern in self._options.keep:
            if not fnmatch.filter(names, pattern):
                near = get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
                raise SpaceError(
                    f"keep: {pattern} matches no axis, layer or tensor of the network; there are, for instance, "
                    f"{', '.join(dict.fromkeys(near))}; an inspection of the model lists all",
                    code="capture.unknown-name",
                    parameter="keep",
                )

    def _width_groups(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for name in elastic_axes(self._elastic, self._options):
            match self._options.granularity:
                case "layer":
                    key = f"{name}.width"
                case "stage":
                    key = f"{stage_of(self._elastic, name)}.width"
                case "model":
                    key = "width"
            groups.setdefault(key, []).append(name)
        return groups

    def _width_options(self, axes: Sequence[str]) -> tuple[float, ...]:
        """The fractions that give different sizes; empty if there is only one."""
        fraction_by_sizes: dict[tuple[int, ...], float] = {}
        for fraction in reversed(self._options.widths):
            fraction_by_sizes.setdefault(tuple(self._size(axis, fraction) for axis in axes), fraction)
        return tuple(sorted(fraction_by_sizes.values())) if len(fraction_by_sizes) > 1 else ()

    def _size(self, axis: str, fraction: float) -> int:
        full, multiple = self._elastic.axes[axis].size, self._options.multiple
        if full % multiple or full < 2 * multiple:
            return max(1, round(full * fraction))
        return max(multiple, round(full * fraction / multiple) * multiple)

    def _depth_groups(self) -> dict[str, tuple[int, ...]]:
        """The units of which each choice keeps some, by their indices in the order in which they are kept, spread over them."""
        groups: dict[str, list[int]] = {}
        previous: tuple[str, object] | None = None
        key = ""
        for index, unit in enumerate(self._elastic.units):
            if self._options.keeps(unit.name):
                continue
            stream = self._elastic.branches[unit.branches[0]].skip
            kind = (unit.container, self._elastic.shapes[stream])
            match self._options.granularity:
                case "layer":
                    key = f"{unit.name}.depth"
                case "model":
                    key = "depth"
                case "stage" if kind != previous:  # a new stage: other layers, or another width
                    parent = unit.name.rpartition(".")[0] or "layers"
                    n = sum(name.removesuffix(".depth").partition(":")[0] == parent for name in groups)
                    key = f"{parent}:{n + 1}.depth" if n else f"{parent}.depth"
            previous = kind
            groups.setdefault(key, []).append(index)
        return {name: tuple(units[i] for i in _spread(len(units))) for name, units in groups.items()}

    def _layers_around(self) -> dict[int, list[tuple[str, int]]]:
        """The groups of the layers around each call that may be left out, with its layer's position in the order."""
        around = dict[int, list[tuple[str, int]]]()
        for group, units in self._depths.items():
            for position, unit in enumerate(units):
                branches = [self._elastic.branches[i] for i in self._elastic.units[unit].branches]
                for call in {call for branch in branches for call in branch.calls}:
                    around.setdefault(call, []).append((group, position))
        return around

    def _required(self, layers_around: Sequence[Sequence[tuple[str, int]]]) -> tuple[str, int] | None:
        """The level of a group's choice with which one of some calls is there; None if one always is, or for several groups.

        Args:
            layers_around: for each of the calls, see `_layers_around`.
        """
        groups = {group for layers in layers_around for group, _ in layers}
        if len(groups) != 1 or not all(layers_around):
            return None
        (group,) = groups
        first = min(max(position for _, position in layers) for layers in layers_around)
        level = next(level for level, n in enumerate(_depths(len(self._depths[group]))) if n > first)
        return (group, level) if level else None

    def members(self) -> tuple[ChoiceMembers, ...]:
        """The choices with the axes or layers that each changes, in the order of the space."""
        members = []
        for choice in self.space.choices:
            options, axes = tuple(map(float, choice.options)), self._widths.get(choice.name, ())
            sizes = tuple(self._size(axes[0], fraction) for fraction in options) if axes else ()
            kind: Literal["width", "depth"] = "width" if axes else "depth"
            members.append(ChoiceMembers(choice.name, choice.title, kind, options, choice.members, sizes))
        return tuple(members)

    def _layers(self, units: Sequence[int]) -> tuple[str, ...]:
        """The names of units, in the order in which they are kept."""
        return tuple(self._elastic.units[i].name for i in units)

    def _titles(self) -> dict[str, str]:
        """The titles of the choices, by name."""
        if self._options.granularity == "model":
            return {name: f"all layers{SEPARATOR}{name}" for name in (*self._depths, *self._widths)}
        channels = _axes_of_channels(self._elastic)
        groups = {name: Group(self._layers(units), "depth") for name, units in self._depths.items()}
        for name, axes in self._widths.items():
            quantity = "channels" if channels.issuperset(axes) else "width"
            paths = tuple(axis.rpartition(".")[0] for axis in axes)
            groups[name] = Group(paths, quantity, self._elastic.axes[axes[0]].size)
        return titles_of_groups(groups)

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        """The axis sizes of an architecture."""
        values = self.space.values(architecture)
        sizes = dict(self._elastic.full_sizes)
        for name, axes in self._widths.items():
            fraction = cast(float, values.get(name, 1.0))  # of layers that are all left out: no tensor has it
            sizes.update((axis, self._size(axis, fraction)) for axis in axes)
        return sizes

    def dropped(self, architecture: Architecture) -> frozenset[int]:
        """The branches that an architecture lacks."""
        values = self.space.values(architecture)
        branches: set[int] = set()
        for name, units in self._depths.items():
            for unit in units[cast(int, values[name]) :]:
                branches.update(self._elastic.units[unit].branches)
        return frozenset(branches)


def _axes_of_channels(elastic: ElasticProgram) -> frozenset[str]:
    """The axes along which the outputs of convolutions are."""
    weights = [
        call.arguments["weight"] for call in elastic.program.calls if call.name.startswith("conv") and call.outputs[0]
    ]
    return axes_in(
        tuple(dim for weight in weights if isinstance(weight, Ref) for dim in elastic.shapes[weight.name][:2])
    )


def _calls_by_axis(elastic: ElasticProgram) -> dict[str, list[int]]:
    """The calls on values that depend on the inputs whose computation has each axis."""
    program, calls_by_axis = elastic.program, dict[str, list[int]]()
    sources = state_sources(program)
    for index, call in enumerate(program.calls):
        if all(name in sources for name in call.outputs if name):
            continue
        names = {source for name in call.reads() for source in sources.get(name, (name,))} | set(
            filter(None, call.outputs)
        )
        dims = {dim for name in names for dim in elastic.shapes[name]}.union(call.sizes())
        for axis in axes_in(tuple(dims)):
            calls_by_axis.setdefault(axis, []).append(index)
    return calls_by_axis


def _depths(n: int) -> tuple[int, ...]:
    """How many of n layers a choice may keep: at most five numbers."""
    return tuple(range(n + 1)) if n <= 4 else tuple(sorted({round(n * share) for share in (0.25, 0.5, 0.75, 1.0)}))


def _spread(n: int) -> list[int]:
    """The positions of n layers so that each prefix is spread over them: the first, the last, then middles."""
    order, gaps = [0], [(0, n - 1)]
    if n > 1:
        order.append(n - 1)
    while gaps:
        first, last = gaps.pop(0)
        middle = (first + last) // 2
        if last - first > 1:
            order.append(middle)
            gaps += [(first, middle), (middle, last)]
    return order
