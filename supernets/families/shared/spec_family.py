"""Bases of families that a spec and a few numbers describe: their JSON form, and what image classifiers have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from supernets.errors import CheckpointError
from supernets.families.shared.spec import Spec
from supernets.sharing.base import Family
from supernets.space import Choice, SearchSpace

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


class ImageFamily(DescribedFamily):
    """A space of networks for square images: (n, channels, image_size, image_size) -> (n, n_classes)."""

    numbers: ClassVar[Numbers] = {"image_size": int, "channels": int, "n_classes": int}

    def __init__(self, spec: Any, *, image_size: int, channels: int, n_classes: int) -> None:
        self.spec = spec
        self.image_size, self.channels, self.n_classes = image_size, channels, n_classes

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, self.channels, self.image_size, self.image_size)
