"""One architecture of a family as a family of its own: what a network is worth that shares its weights with nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from supernets.axes import Axes, Dim
from supernets.base import Family
from supernets.families.vit import ViTFamily
from supernets.space import Architecture, Choice, SearchSpace


class AloneFamily:
    """A space of one network, built and initialised by its own constructor."""

    def __init__(self, inner: Family, architecture: Architecture) -> None:
        self.inner, self.architecture = inner, architecture
        self.name = f"alone {inner.name}"
        self.space = SearchSpace([Choice("network", (architecture.key,))])
        self.axes: Axes = {}
        self.geometry: tuple[str, ...] = ()
        dropped = inner.dropped(architecture)
        self.blocks = tuple(b for b in inner.blocks if b not in dropped)
        self.attention: Mapping[str, Dim] = {}  # costs are the inner family's to tell
        self._dims = {name: tuple(t.shape) for name, t in inner.build(architecture).state_dict().items()}

    def template(self, like: Architecture | None = None) -> nn.Module:
        network = self.inner.build(self.architecture)
        # Those whose constructors' initialisation is not the one that they are trained from.
        return self.inner.initialised(network) if isinstance(self.inner, ViTFamily) else network

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return self._dims

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        return {}

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        return frozenset()

    def build(self, architecture: Architecture) -> nn.Module:
        return self.inner.build(self.architecture)

    def example(self, batch_size: int = 1) -> Tensor:
        return self.inner.example(batch_size)

    def to_json(self) -> dict[str, Any]:
        return {"family": "alone", "of": self.inner.to_json(), "architecture": self.architecture.key}
