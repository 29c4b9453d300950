"""What families of image classifiers have in common: the images that they are for, and how checkpoints describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from supernets.errors import CheckpointError


class ImageSpec(Protocol):
    """The dimensions of a family's space."""

    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self: ...


class ImageFamily:
    """A space of networks for square images: (n, channels, image_size, image_size) -> (n, n_classes)."""

    name: str
    spec_type: ClassVar[type[ImageSpec]]

    def __init__(self, spec: Any, *, image_size: int, channels: int, n_classes: int) -> None:
        self.spec = spec
        self.image_size, self.channels, self.n_classes = image_size, channels, n_classes

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, self.channels, self.image_size, self.image_size)

    def initialised(self, network: nn.Module) -> nn.Module:
        return network  # its constructors have drawn its weights

    def to_json(self) -> dict[str, Any]:
        return {
            "family": self.name,
            "spec": self.spec.to_json(),
            "image_size": self.image_size,
            "channels": self.channels,
            "n_classes": self.n_classes,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The family that `to_json` wrote.

        Raises:
            CheckpointError: the data are those of no such family.
        """
        try:
            return cls(cls.spec_type.from_json(data["spec"]), **cls.numbers(data))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the description of a {cls.name} is malformed: {error!r}") from None

    @classmethod
    def numbers(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """What its constructor takes beside the space, from its description."""
        return {name: int(data[name]) for name in ("image_size", "channels", "n_classes")}
