"""Bases of families that a spec and a few numbers describe: their JSON form, stacks of layers, and what image classifiers have
in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from supernets.errors import CheckpointError
from supernets.families.shared.spec import Spec
from supernets.sharing.base import Family
from supernets.space import Architecture, Choice, Option, SearchSpace
from supernets.space.axes import NamedDims

Numbers = Mapping[str, Callable[[Any], Any]]
"""The types that make a value of its form in JSON, by name."""


class DescribedFamily(Family):
    """A family that its constructor makes of a spec and of numbers, which are its attributes."""

    name: str
    spec: Any
    spec_type: ClassVar[type[Spec]]
    numbers: ClassVar[Numbers]
    """The constructor's arguments beside the spec, with their types."""
    optional: ClassVar[frozenset[str]] = frozenset()
    """The arguments that descriptions of earlier versions lack."""

    @cached_property
    def space(self) -> SearchSpace:
        """The choices of its networks; by default one for each field of the spec that has options."""
        options = {field.name: getattr(self.spec, field.name) for field in fields(self.spec)}
        return SearchSpace([Choice(name, values) for name, values in options.items() if isinstance(values, tuple)])

    def to_json(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in self.numbers}
        return {"family": self.name, "spec": self.spec.to_json(), **numbers}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The family that `to_json` wrote.

        Raises:
            CheckpointError: the data describe no such family.
        """
        try:
            make: Any = cls
            needed = [name for name in cls.numbers if name in data or name not in cls.optional]
            numbers = {name: cls.numbers[name](data[name]) for name in needed}
            family: Self = make(cls.spec_type.from_json(data["spec"]), **numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the description of a family {cls.name} is malformed: {error!r}") from None
        return family


@dataclass(frozen=True)
class Stack:
    """Layers in a row, of which a network keeps some.

    Attributes:
        choices: Choices of the stack as a whole; one is of the kind ``depth``.
        module: Name of the module that contains the layers.
        layer: Beginning of the names of a layer's choices and axes, before its number.
        options: Options of the choices that each layer makes anew, by kind.
        before, after: Names of the blocks before and after the layers.
    """

    choices: tuple[Choice, ...]
    module: str
    layer: str
    options: Mapping[str, tuple[Option, ...]]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def choice(self, kind: str) -> Choice:
        """Returns the choice of a kind among those of the stack as a whole."""
        return next(choice for choice in self.choices if choice.kind == kind)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """The numbers of layers that networks may keep."""
        return cast("tuple[int, ...]", self.choice("depth").options)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Beginnings of the names of the choices and axes of each layer."""
        return tuple(f"{self.layer}{i}" for i in range(self.depths[-1]))

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """Names of the layers' modules, in their order."""
        return tuple(f"{self.module}.{i}" for i in range(self.depths[-1]))


class StackedFamily(DescribedFamily):
    """A family whose networks are stacks of layers: each stack has a depth, and each layer its own options.

    Its blocks are the layers, and what is before and after them. By default the options of all choices but the depths are sizes
    of axes as they are.
    """

    stacks: tuple[Stack, ...]
    first_choices: tuple[Choice, ...] = ()
    """The choices before those of the stacks."""

    @cached_property
    def space(self) -> SearchSpace:
        """The first choices, then those of each stack and its layers."""
        return SearchSpace([*self.first_choices, *(choice for stack in self.stacks for choice in self._choices(stack))])

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        return tuple(name for stack in self.stacks for name in (*stack.before, *stack.modules, *stack.after))

    def _choices(self, stack: Stack) -> Iterator[Choice]:
        yield from stack.choices
        layers_by_level = [self.layers_of_depth(stack, depth) for depth in stack.depths]
        for i, layer in enumerate(stack.layers):
            level = next(level for level, layers in enumerate(layers_by_level) if i in layers)
            yield from self.layer_choices(stack, layer, (stack.choice("depth").name, level) if level > 0 else None)

    def layer_choices(self, stack: Stack, layer: str, requires: tuple[str, int] | None) -> Iterable[Choice]:
        """The choices of a layer.

        Args:
            layer: Beginning of their names.
            requires: The depth with which networks have the layer; None where all have it.
        """
        return [Choice(f"{layer}.{kind}", options, requires) for kind, options in stack.options.items()]

    def layers_of_depth(self, stack: Stack, depth: int) -> tuple[int, ...]:
        """The numbers of the layers that networks of a depth keep, in their order; by default the first ones."""
        return tuple(range(depth))

    def options(self, architecture: Architecture) -> dict[str, Option]:
        """The option of each choice but the depths; the smallest, whose size is never read, for a layer that a depth drops."""
        values = self.space.values(architecture)
        return {name: values.get(name, smallest) for name, smallest in self._smallest_options}

    @cached_property
    def _smallest_options(self) -> list[tuple[str, Option]]:
        return [(choice.name, choice.options[0]) for choice in self.space.choices if choice.kind != "depth"]

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        return cast("dict[str, int]", self.options(architecture))

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        values = self.space.values(architecture)
        return frozenset().union(*(modules[values[depth]] for depth, modules in self._dropped_by_depth))

    @cached_property
    def _dropped_by_depth(self) -> list[tuple[str, dict[Option, frozenset[str]]]]:
        """The modules that networks of each depth lack, for each choice of a depth."""
        tables: list[tuple[str, dict[Option, frozenset[str]]]] = []
        for stack in self.stacks:
            kept_numbers = {depth: self.layers_of_depth(stack, depth) for depth in stack.depths}
            modules_by_depth: dict[Option, frozenset[str]] = {
                depth: frozenset(module for i, module in enumerate(stack.modules) if i not in numbers)
                for depth, numbers in kept_numbers.items()
            }
            tables.append((stack.choice("depth").name, modules_by_depth))
        return tables

    def named_dims(self) -> Mapping[str, NamedDims]:
        return {
            f"{module}.{name}": dims
            for stack in self.stacks
            for module, layer in zip(stack.modules, stack.layers, strict=True)
            for name, dims in self.layer_dims(stack, layer).items()
        }

    @abstractmethod
    def layer_dims(self, stack: Stack, layer: str) -> Mapping[str, NamedDims]:
        """Dimensions of tensors of a layer, by their names in its module.

        Args:
            stack: The stack of layers that the layer is in.
            layer: Beginning of the names of its axes.
        """


class ImageFamily(DescribedFamily):
    """A space of networks for square images: (n, channels, image_size, image_size) -> (n, n_classes).

    Args:
        spec: Options of the networks' elastic dimensions, and their fixed sizes; of the class `spec_type`.
        image_size: Height and width of an image in pixels.
        channels: Number of channels of an image: 1 for grey, 3 for colour.
        n_classes: Number of classes, the size of the outputs' last dimension.
    """

    numbers: ClassVar[Numbers] = {"image_size": int, "channels": int, "n_classes": int}

    def __init__(self, spec: Any, *, image_size: int, channels: int, n_classes: int) -> None:
        self.spec = spec
        self.image_size, self.channels, self.n_classes = image_size, channels, n_classes

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, self.channels, self.image_size, self.image_size)
