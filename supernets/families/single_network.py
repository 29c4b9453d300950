"""One network of a family as a family of its own, for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from supernets.axes import Axes, Axis, Dim
from supernets.base import Family
from supernets.cost import Costs, CostTable, Counts, Products
from supernets.families.nested_networks import NestedFamily
from supernets.families.shared.module_costs import ModuleCosts
from supernets.space import Architecture, Choice, SearchSpace


def innermost(family: Family, network: Architecture) -> tuple[Family, Architecture]:
    """The plain family that nested and single ones wrap, and the network in its space."""
    match family:
        case SingleFamily():
            return innermost(family.inner, family.network)
        case NestedFamily():
            return innermost(family.inner, family.of(network))
        case _:
            return family, network


class _OneNetwork:
    """The costs of one network of a family, as those of a space with this network alone."""

    def __init__(self, family: Family, network: Architecture) -> None:
        self._costs, self._network = family.cost_model(nn.Module()), network
        self._sizes, self._dropped = family.sizes(network), family.dropped(network)

    def costs(
        self, architectures: Sequence[Architecture], sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]
    ) -> CostTable:
        """Costs of n times the network, as of `supernets.cost.CostModel`."""
        n = len(architectures)
        own = {name: np.full(n, size, dtype=np.int64) for name, size in self._sizes.items()}
        return self._costs.costs([self._network] * n, own, [self._dropped] * n)


class SingleFamily(ModuleCosts):
    """The family of one network of another family.

    Its choices are those of the network, each with one option.

    Raises:
        SpaceError: the other family has no such network.
    """

    geometry: tuple[str, ...] = ()

    def __init__(self, inner: Family, network: Architecture) -> None:
        inner.space.check(network)
        self.inner, self.network = inner, network
        self.name = f"single {inner.name}"
        self.space = SearchSpace([Choice(name, (option,)) for name, option in inner.space.values(network).items()])
        sizes, dropped = inner.sizes(network), inner.dropped(network)
        # Axes of dropped layers have no tensors, and their size is never read.
        self.axes: Axes = {name: Axis(name, sizes[name], axis.slice) for name, axis in inner.axes.items()}
        gone = tuple(f"{name}." for name in dropped)
        self._dims = {name: dims for name, dims in inner.dims().items() if not f"{name}.".startswith(gone)}
        plain = innermost(inner, network)[0]
        of_modules = isinstance(plain, ModuleCosts)
        self.blocks = tuple(
            block for block in inner.blocks if not (of_modules and (block in dropped or block.startswith(gone)))
        )
        self.attention: Mapping[str, Dim] = {
            name: dim for name, dim in inner.attention.items() if not name.startswith(gone)
        }
        self.tied: Mapping[str, str] = getattr(plain, "tied", {})
        products: Mapping[str, Products] = getattr(plain, "products", {})
        self.products: Mapping[str, Products] = {
            name: own for name, own in products.items() if not name.startswith(gone)
        }

    def template(self, like: Architecture | None = None) -> nn.Module:
        return self.initialised(self.inner.build(self.network))

    def initialised(self, network: nn.Module) -> nn.Module:
        return self.inner.initialised(network)

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return self._dims

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        return {name: axis.size for name, axis in self.axes.items()}

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        return frozenset()

    def build(self, architecture: Architecture) -> nn.Module:
        return self.inner.build(self.network)

    def example(self, batch_size: int = 1) -> Tensor:
        return self.inner.example(batch_size)

    def cost_model(self, template: nn.Module) -> Costs:
        """Costs by the modules of the template, or by the program of a captured network."""
        plain, network = innermost(self.inner, self.network)
        if isinstance(plain, ModuleCosts):
            return super().cost_model(template)
        return _OneNetwork(plain, network)

    def to_json(self) -> dict[str, Any]:
        return {"family": "single", "of": self.inner.to_json(), "network": self.network.key}
