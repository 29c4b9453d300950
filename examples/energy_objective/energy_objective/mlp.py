"""A family of multilayer perceptrons for small images: elastic width and depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from torch import Tensor, nn

from supernets.axes import Axes, Axis, Dim
from supernets.families.registry import FamilyDescription
from supernets.families.shared.spec import Options, Spec
from supernets.families.shared.spec_family import ImageFamily
from supernets.space import Architecture, Choice, SearchSpace


@dataclass(frozen=True)
class MLPSpec(Spec):
    """A space of perceptrons: the keys of `supernet.space` in a job file.

    Attributes:
        width: units of every layer, smallest first.
        depth: numbers of hidden layers with a skip connection, smallest first.
    """

    width: Annotated[tuple[int, ...], Options(4096)]
    depth: Annotated[tuple[int, ...], Options(16)]


class MLP(nn.Module):
    """Flattens the image; a layer to the width, hidden layers with skips, a classifier: (n, c, h, w) -> (n, classes)."""

    def __init__(self, inputs: int, width: int, depth: int, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.hidden = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = torch.relu(self.stem(x.flatten(1)))
        return cast(Tensor, self.classifier(self.hidden(features)))


class Block(nn.Module):
    """A layer with a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.layer(x))


class MLPFamily(ImageFamily):
    """All perceptrons that an `MLPSpec` spans; a smaller one has the first units and the first hidden layers."""

    name = "energy_objective.mlp:MLPFamily"  # how checkpoints load it
    description: ClassVar[FamilyDescription] = FamilyDescription(
        MLPSpec,
        {
            "tiny": MLPSpec(width=(8, 16, 32), depth=(1, 2, 3)),
            "small": MLPSpec(width=(32, 64, 128, 256), depth=(1, 2, 4)),
        },
        network=name,
    )
    spec_type = MLPSpec

    def __init__(self, spec: MLPSpec, *, image_size: int, channels: int, n_classes: int) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes)
        self.space = SearchSpace([Choice("width", spec.width), Choice("depth", spec.depth)])
        self.axes: Axes = {"width": Axis("width", spec.width[-1])}
        self.blocks = ("stem", *(f"hidden.{i}" for i in range(spec.depth[-1])), "classifier")

    @property
    def _inputs(self) -> int:
        return self.channels * self.image_size**2

    def template(self) -> nn.Module:
        return MLP(self._inputs, self.spec.width[-1], self.spec.depth[-1], self.n_classes)

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        found: dict[str, tuple[Dim, ...]] = {"stem.weight": ("width", self._inputs), "stem.bias": ("width",)}
        for i in range(self.spec.depth[-1]):
            found |= {f"hidden.{i}.layer.weight": ("width", "width"), f"hidden.{i}.layer.bias": ("width",)}
        return found | {"classifier.weight": (self.n_classes, "width"), "classifier.bias": (self.n_classes,)}

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        depth = cast(int, self.space.values(architecture)["depth"])
        return frozenset(f"hidden.{i}" for i in range(depth, self.spec.depth[-1]))
