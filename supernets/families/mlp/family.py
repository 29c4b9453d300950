"""An elastic multilayer perceptron for rows of numbers: elastic width, depth and inner widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from supernets.families.mlp.spec import MLPSpec
from supernets.families.shared.spec_family import DescribedFamily, Numbers
from supernets.space import Architecture, Choice, SearchSpace
from supernets.space.axes import Axes, Axis, NamedDims


class Block(nn.Module):
    """A layer to the inner width, ReLU, a layer back; added to the input or, if not residual, followed by ReLU."""

    def __init__(self, width: int, hidden: int, *, residual: bool) -> None:
        super().__init__()
        self.expand, self.reduce = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        reduced = cast(Tensor, self.reduce(torch.relu(self.expand(x))))
        return x + reduced if self.residual else torch.relu(reduced)


class MLP(nn.Module):
    """A layer to the width, ReLU, blocks, and a layer to the outputs: (n, features) -> (n, outputs)."""

    def __init__(self, stem: nn.Linear, blocks: list[Block], classifier: nn.Linear) -> None:
        super().__init__()
        self.stem, self.blocks, self.classifier = stem, nn.Sequential(*blocks), classifier

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.blocks(torch.relu(self.stem(x)))))


class MLPFamily(DescribedFamily):
    """The family of all perceptrons that an `MLPSpec` spans; a smaller one has the first units and the first blocks."""

    name = "mlp"
    spec_type = MLPSpec
    numbers: ClassVar[Numbers] = {"features": int, "n_classes": int}

    def __init__(self, spec: MLPSpec, *, features: int, n_classes: int) -> None:
        self.spec, self.features, self.n_classes = spec, features, n_classes
        self.space = SearchSpace([Choice("width", spec.width), Choice("depth", spec.depth), *self._hidden_choices()])
        depth = spec.depth[-1]
        self.axes: Axes = {"width": Axis("width", spec.width[-1])}
        self.axes |= {_hidden(i): Axis(_hidden(i), spec.hidden[-1]) for i in range(depth)}
        self.blocks = ("stem", *(f"blocks.{i}" for i in range(depth)), "classifier")

    def _hidden_choices(self) -> Iterator[Choice]:
        for i in range(self.spec.depth[-1]):
            level = next(level for level, depth in enumerate(self.spec.depth) if depth > i)
            yield Choice(_hidden(i), self.spec.hidden, ("depth", level) if level > 0 else None)

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, self.features)

    def template(self) -> nn.Module:
        width, hidden = self.spec.width[-1], self.spec.hidden[-1]
        blocks = [Block(width, hidden, residual=self.spec.residual) for _ in range(self.spec.depth[-1])]
        return MLP(nn.Linear(self.features, width), blocks, nn.Linear(width, self.n_classes))

    def named_dims(self) -> Mapping[str, NamedDims]:
        dims: dict[str, NamedDims] = {"stem.weight": ("width", ...)}
        for i in range(self.spec.depth[-1]):
            dims |= {f"blocks.{i}.expand.weight": (_hidden(i), ...), f"blocks.{i}.reduce.weight": ("width", ...)}
        return dims

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        values = self.space.values(architecture)
        unused = self.spec.hidden[0]  # of blocks that the depth drops
        return {name: cast(int, values.get(name, unused)) for name in self.axes}

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        depth = cast(int, self.space.values(architecture)["depth"])
        return frozenset(f"blocks.{i}" for i in range(depth, self.spec.depth[-1]))


def _hidden(block: int) -> str:
    return f"block{block}.hidden"
