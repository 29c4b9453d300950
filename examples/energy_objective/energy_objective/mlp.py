"""A family of multilayer perceptrons for small images: elastic width and depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, cast

import torch
from torch import Tensor, nn

from supernets.families.registry import FamilyDescription
from supernets.families.shared.spec import Options, Spec
from supernets.families.shared.spec_family import ImageFamily
from supernets.space import Architecture
from supernets.space.axes import NamedDims


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

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        return ("stem", *(f"hidden.{i}" for i in range(self.spec.depth[-1])), "classifier")

    def named_dims(self) -> Mapping[str, NamedDims]:
        return {"stem.weight": ("width", ...)}  # the skips give all hidden layers as many units

    def template(self) -> nn.Module:
        spec = self.spec
        return MLP(self.channels * self.image_size**2, spec.width[-1], spec.depth[-1], self.n_classes)

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        depth = cast(int, self.space.values(architecture)["depth"])
        return frozenset(f"hidden.{i}" for i in range(depth, self.spec.depth[-1]))
