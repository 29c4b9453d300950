"""Base of families of some networks of another family."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from supernets.sharing.base import Family


class WrappedFamily(Family):
    """A family whose networks are some of another family's, the inner one's: they have its tensors, and read its inputs."""

    def __init__(self, inner: Family) -> None:
        self.inner = inner
        self.positions, self.has_experts = inner.positions, inner.has_experts

    @cached_property
    def matrices(self) -> Mapping[str, tuple[int, int]]:
        """The outputs' and inputs' dimensions of the inner family's weights, for the weights that its networks have."""
        dims = self.dims()
        return {name: output_and_input for name, output_and_input in self.inner.matrices.items() if name in dims}

    @property
    def head(self) -> Mapping[str, Any] | None:
        return self.inner.head

    @property
    def trained(self) -> bool:
        return self.inner.trained

    def initialised(self, network: nn.Module) -> nn.Module:
        return self.inner.initialised(network)

    def example(self, batch_size: int = 1) -> Tensor:
        return self.inner.example(batch_size)
