"""A mixture of supernets: stacks of experts, and the routers that say how an architecture mixes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.axes import Dim, Sizes, axes_in, full_sizes, size_of, slice_tensor
from supernets.base import Family
from supernets.errors import SpaceError
from supernets.sharing.spec import MixtureSpec
from supernets.space import Architecture


class Mixture(nn.Module):
    """The routers of mixed layers (Jawahar et al. 2023, Mixture-of-Supernets, arXiv 2306.04845).

    A mixed layer's weight and bias are sums of its experts' with coefficients that a router makes of the architecture: never
    of data, so that every subnet is one plain network. Routed by layer, one router a block gives one coefficient an expert,
    which all of the block's mixed layers use; routed by neuron, one router a layer gives each output unit its own. All
    experts are mixed, none is picked.

    Departures from the paper: any convolution or linear layer can be mixed, not those of transformers' feed-forward parts
    alone; the encoding is the space's (one-hot and ordinal columns); fresh experts are scaled by the square root of their
    number, so that their mean varies as one network's weights do (unscaled, it would vary that much less).

    Args:
        template: the largest network.

    Raises:
        SpaceError: no layer can be mixed, or a pattern of `spec.layers` names none.
    """

    def __init__(self, family: Family, spec: MixtureSpec, template: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self._family = family
        self.layers = _mixed_layers(family, spec.layers, template)
        self.experts = spec.experts
        self._router_of: dict[str, str] = {}
        self._units: dict[str, Dim] = {}
        """Of each router, what it gives coefficients for."""
        for layer in self.layers:
            by_neuron = spec.routing == "neuron"
            name = layer if by_neuron else _block_of(family, layer)
            self._router_of[layer] = name
            self._units[name] = family.dims()[f"{layer}.weight"][0] if by_neuron else 1
        self._inputs = family.space.encode([family.space.largest]).shape[1]
        # All routers see the same encoding: their hidden layers are the rows of one, in the routers' order.
        self.router_hidden = nn.Linear(self._inputs, len(self._units) * spec.hidden)
        full = full_sizes(family.axes)
        self.router_logits = nn.ModuleDict(
            {
                _key(name): nn.Linear(spec.hidden, size_of(units, full) * spec.experts)
                for name, units in self._units.items()
            }
        )

    def store_experts(self, template: nn.Module, *, fresh: bool) -> frozenset[str]:
        """Replaces the mixed layers' tensors by stacks (experts, *shape); returns their names.

        Args:
            fresh: whether the experts are initialised independently; else all are what the template has.
        """
        others = (
            [self._family.template() for _ in range(self.experts - 1)] if fresh else [template] * (self.experts - 1)
        )
        scale = sqrt(self.experts) if fresh else 1.0
        stacked = set()
        for layer in self.layers:
            for name, parameter in template.get_submodule(layer).named_parameters(prefix=layer, recurse=False):
                experts = [parameter, *(other.get_parameter(name) for other in others)]
                stack = torch.stack([expert.detach() for expert in experts]) * scale
                setattr(template.get_submodule(layer), name.rpartition(".")[2], nn.Parameter(stack))
                stacked.add(name)
        return frozenset(stacked)

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of the routers' tensors."""
        n_hidden = len(self._units) * self.spec.hidden
        dims: dict[str, tuple[Dim, ...]] = {
            "router_hidden.weight": (n_hidden, self._inputs),
            "router_hidden.bias": (n_hidden,),
        }
        for name in self._units:
            weight, bias = self._logit_dims(name)
            dims[f"router_logits.{_key(name)}.weight"], dims[f"router_logits.{_key(name)}.bias"] = weight, bias
        return dims

    def _logit_dims(self, name: str) -> tuple[tuple[Dim, ...], tuple[Dim, ...]]:
        """Of a router's last layer: its rows are units first, experts within, so that the first units' are a slice."""
        rows: Dim = (self._units[name], self.experts)
        return (rows, self.spec.hidden), (rows,)

    def coefficients(self, architecture: Architecture) -> dict[str, Tensor]:
        """Of each mixed layer that the architecture has, its coefficients: (units, experts), each row adding up to 1.

        Units are the layer's outputs in this architecture where it is routed by neuron, else one for all of them.
        """
        family = self._family
        sizes, dropped = family.sizes(architecture), family.dropped(architecture)
        absent = tuple(f"{name}." for name in dropped)
        kept = [layer for layer in self.layers if not f"{layer}.".startswith(absent)]
        needed = {self._router_of[layer] for layer in kept}
        hidden = functional.relu(self.router_hidden(self._encoding(architecture))).view(len(self._units), -1)
        logits = {
            name: self._logits(name, own, sizes)
            for name, own in zip(self._units, hidden.unbind(), strict=True)
            if name in needed
        }
        if not logits:  # all mixed layers lie in blocks that this network lacks
            return {}
        # Routers are so small that the number of operations is what they cost: one softmax for all of them.
        rows = torch.cat([*logits.values()]).view(-1, self.experts).softmax(dim=1)
        units = [len(own) // self.experts for own in logits.values()]
        of_router = dict(zip(logits, rows.split(units), strict=True))
        return {layer: of_router[self._router_of[layer]] for layer in kept}

    def _encoding(self, architecture: Architecture) -> Tensor:
        """What routers see: (1, columns)."""
        encoding = torch.from_numpy(self._family.space.encode([architecture])).to(self.router_hidden.weight)
        return torch.full_like(encoding, 0.5) if self.spec.constant_input else encoding

    def _logits(self, name: str, hidden: Tensor, sizes: Sizes) -> Tensor:
        """A router's logits, (units * experts,), from its hidden layer, (hidden,)."""
        layer, dims = cast(nn.Linear, self.router_logits[_key(name)]), self._logit_dims(name)
        weight, bias = (
            slice_tensor(tensor, own, self._family.axes, sizes)
            for tensor, own in zip((layer.weight, layer.bias), dims, strict=True)
        )
        return torch.addmv(bias, weight, hidden)


def mixed(stack: Tensor, coefficients: Tensor) -> Tensor:
    """The sum of a stack's experts, each times its coefficient.

    Args:
        stack: (experts, outputs, ...).
        coefficients: (outputs, experts), or (1, experts) for all outputs.
    """
    if len(coefficients) == 1:
        return (coefficients @ stack.flatten(1)).view(stack.shape[1:])
    factors = coefficients.T.view(len(stack), -1, *[1] * (stack.ndim - 2))
    # All products at once, as their gradients are in any case: adding expert to expert makes the backward twice as long.
    return (stack * factors).sum(dim=0)


def _mixed_layers(family: Family, patterns: Sequence[str], template: nn.Module) -> tuple[str, ...]:
    """Names of the layers to mix, in the template's order."""
    layers = [name for name, module in template.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    dims = family.dims()
    if not patterns:
        found = tuple(name for name in layers if axes_in(dims[f"{name}.weight"]))
        if not found:
            raise SpaceError("mixture: no convolution or linear layer has an elastic axis; name the layers to mix")
        return found
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            shown = ", ".join(layers[:4])
            raise SpaceError(
                f"mixture.layers: {pattern!r} matches no convolution or linear layer; there are {shown}, ..."
            )
    return tuple(name for name in layers if any(fnmatchcase(name, pattern) for pattern in patterns))


def _block_of(family: Family, layer: str) -> str:
    """The block that a layer lies in; itself where it lies in none."""
    return next((b for b in family.blocks if layer == b or layer.startswith(f"{b}.")), layer)


def _key(name: str) -> str:
    """A module's name as one that a container of modules takes."""
    return name.replace(".", "/")
