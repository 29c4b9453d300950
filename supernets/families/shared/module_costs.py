"""Costs of families whose networks consist of torch's own modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from supernets.cost import CostModel, Costs, Products

if TYPE_CHECKING:
    from supernets.base import Family


class ModuleCosts:
    """Computes costs from one recorded forward of the largest network; a base of families."""

    tied: Mapping[str, str] = {}
    """Linear layers whose weight is another module's tensor, by module."""
    products: Mapping[str, Products] = {}
    """Of modules that are neither convolutions nor linear layers, by module."""

    def cost_model(self: Family, template: nn.Module) -> Costs:
        """Costs by the modules of the template."""
        return CostModel(
            template, self.dims(), self.blocks, self.example(),
            attention=self.attention, like=self.template, geometry=self.geometry, tied=getattr(self, "tied", {}),
            products=getattr(self, "products", {}),
        )  # fmt: skip
