"""An elastic multilayer perceptron for rows of numbers: elastic width, depth and inner widths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from supernets.families.mlp_spec import MLPSpec
from supernets.families.shared.spec_family import Numbers, Stack, StackedFamily
from supernets.space import Choice
from supernets.space.axes import NamedDims


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


class MLPFamily(StackedFamily):
    """The family of all perceptrons that an `MLPSpec` spans; a smaller one has the first units and the first blocks."""

    name = "mlp"
    spec_type = MLPSpec
    numbers: ClassVar[Numbers] = {"features": int, "n_classes": int}

    def __init__(self, spec: MLPSpec, *, features: int, n_classes: int) -> None:
        self.spec, self.features, self.n_classes = spec, features, n_classes
        choices = Choice("width", spec.width), Choice("depth", spec.depth)
        self.stacks = (Stack(choices, "blocks", "block", {"hidden": spec.hidden}, ("stem",), ("classifier",)),)

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, self.features)

    def template(self) -> nn.Module:
        width, hidden = self.spec.width[-1], self.spec.hidden[-1]
        blocks = [Block(width, hidden, residual=self.spec.residual) for _ in range(self.spec.depth[-1])]
        return MLP(nn.Linear(self.features, width), blocks, nn.Linear(width, self.n_classes))

    def named_dims(self) -> Mapping[str, NamedDims]:
        return {"stem.weight": ("width", ...), **super().named_dims()}

    def layer_dims(self, stack: Stack, layer: str) -> Mapping[str, NamedDims]:
        return {"expand.weight": (f"{layer}.hidden", ...), "reduce.weight": ("width", ...)}
