"""Low-rank adapters of linear layers, which are trained in place of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.errors import SpaceError
from supernets.experts.losses import routers
from supernets.sharing.base import Family
from supernets.space.axes import Dim, Sizes, full_sizes, size_of, slice_tensor


class Adapters(nn.Module):
    """Low-rank changes of the weights of linear layers (LoRA; Hu et al. 2021, arXiv 2106.09685).

    The weight of a layer is the stored one plus ``up @ down``. A subnet's is the slice of that sum, for which the factors are
    sliced as the weight is. ``up`` begins as zeros, so that nothing changes before the first step. Departures from the paper:
    all linear layers have adapters but the routers of experts, which are small and trained as they are without adapters; and
    their product has no factor beside the learning rate.

    Args:
        template: the largest network, whose other parameters get gradients from now on if they are vectors: norms and biases.

    Raises:
        SpaceError: the network has no linear layer.
    """

    def __init__(self, family: Family, rank: int, template: nn.Module) -> None:
        super().__init__()
        self._family, full, dims = family, full_sizes(family.axes), family.dims()
        self._dims: dict[str, tuple[Dim, Dim]] = {}
        self.up, self.down = nn.ParameterDict(), nn.ParameterDict()
        routing = {part for router in routers(template) for part in (*router.modules(), *router.parameters())}
        linear = [
            name for name, module in template.named_modules() if isinstance(module, nn.Linear) and module not in routing
        ]
        for name in [f"{name}.weight" for name in linear]:
            output, inputs = self._dims[name] = (dims[name][0], dims[name][1])
            self.up[_key(name)] = nn.Parameter(torch.zeros(size_of(output, full), rank))
            self.down[_key(name)] = down = nn.Parameter(torch.empty(rank, size_of(inputs, full)))
            nn.init.uniform_(down, -(down.shape[1] ** -0.5), down.shape[1] ** -0.5)
        if not self._dims:
            raise SpaceError("adapters: the networks have no linear layers; remove it", code="sharing.invalid")
        self._rank = rank
        for parameter in template.parameters():
            if parameter not in routing:
                parameter.requires_grad_(parameter.ndim == 1)

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of both factors of each layer, by their names here."""
        ups = {f"up.{_key(name)}": (output, self._rank) for name, (output, _) in self._dims.items()}
        return ups | {f"down.{_key(name)}": (self._rank, inputs) for name, (_, inputs) in self._dims.items()}

    def adapted(self, name: str, weight: Tensor, sizes: Sizes) -> Tensor:
        """The weight of a subnet of these sizes, (outputs, inputs), with the layer's adapter; other tensors as they are."""
        return torch.addmm(weight, *self._factors(name, sizes)) if name in self._dims else weight

    def attached(self, subnet: nn.Module, sizes: Sizes) -> nn.Module:
        """A live subnet of these sizes with plain slices, whose adapted layers add their adapters to their outputs; in place.

        Neither the sum of a weight and its adapter nor the gradient of the weight is computed.
        """
        for name, layer in subnet.named_modules():
            if f"{name}.weight" in self._dims:
                layer.__dict__["forward"] = partial(_adapted_linear, layer, *self._factors(f"{name}.weight", sizes))
        return subnet

    def _factors(self, name: str, sizes: Sizes) -> tuple[Tensor, Tensor]:
        """The slices of a weight's factors: (outputs, rank) and (rank, inputs)."""
        (output, inputs), axes = self._dims[name], self._family.axes
        up = slice_tensor(self.up[_key(name)], (output, self._rank), axes, sizes)
        return up, slice_tensor(self.down[_key(name)], (self._rank, inputs), axes, sizes)


def _adapted_linear(layer: nn.Linear, up: Tensor, down: Tensor, x: Tensor) -> Tensor:
    return functional.linear(x, layer.weight, layer.bias) + functional.linear(functional.linear(x, down), up)


def _key(name: str) -> str:
    """A tensor's name as one of a parameter, which has no dots."""
    return name.replace(".", "/")
