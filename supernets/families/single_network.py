"""One network of a family as a family of its own, for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any

from torch import nn

from supernets.families.captured.captured_family import CapturedFamily
from supernets.families.wrapped_family import WrappedFamily
from supernets.sharing.base import Family
from supernets.space import Architecture, Choice, SearchSpace
from supernets.space.axes import Axes, Axis, Dim, NamedDims, slice_tensor


class SingleFamily(WrappedFamily):
    """The family of one network of another family.

    Its choices are those of the network, each with one option.

    Raises:
        SpaceError: the other family has no such network.
    """

    def __init__(self, inner: Family, network: Architecture) -> None:
        inner.space.check(network)
        super().__init__(inner)
        self.network = network
        self.name = f"single {inner.name}"
        self.space = SearchSpace([Choice(name, (option,)) for name, option in inner.space.values(network).items()])
        sizes, dropped = inner.sizes(network), inner.dropped(network)
        # Axes of dropped layers have no tensors, and their size is never read.
        self.axes: Axes = {name: Axis(name, sizes[name], axis.slice) for name, axis in inner.axes.items()}
        absent_prefixes = tuple(f"{name}." for name in dropped)
        self._absent_prefixes = absent_prefixes
        # What follows a block of a user's network belongs to it, whatever it lacks.
        of_runs = isinstance(inner.plain(network)[0], CapturedFamily)
        self.blocks = tuple(
            block for block in inner.blocks if of_runs or not (block in dropped or block.startswith(absent_prefixes))
        )

    def template(self) -> nn.Module:
        inner, sizes, dims = self.inner, self.inner.sizes(self.network), self.inner.dims()
        tree = inner.template()
        weights = {
            name: slice_tensor(tensor, dims[name], inner.axes, sizes)
            for name, tensor in tree.state_dict().items()
            if not f"{name}.".startswith(self._absent_prefixes)
        }
        network = inner.standalone(tree, self.network, weights)
        if not self.trained:
            for module in network.modules():
                if isinstance(reset := getattr(module, "reset_parameters", None), MethodType):
                    reset()  # as its constructor draws weights of its own sizes
        return self.initialised(network)

    def named_dims(self) -> Mapping[str, NamedDims]:
        return self.dims()

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return {
            name: dims for name, dims in self.inner.dims().items() if not f"{name}.".startswith(self._absent_prefixes)
        }

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        return {name: axis.size for name, axis in self.axes.items()}

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        return frozenset()

    def plain(self, architecture: Architecture) -> tuple[Family, Architecture]:
        return self.inner.plain(self.network)

    def to_json(self) -> dict[str, Any]:
        return {"family": "single", "of": self.inner.to_json(), "network": self.network.key}
