"""Mixture of supernets: stacks of experts, mixed by routers that read the architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial, reduce
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.errors import SpaceError
from supernets.sharing.base import Family
from supernets.sharing.spec import MixtureSpec
from supernets.space import Architecture
from supernets.space.axes import Dim, Sizes, axes_in, full_sizes, size_of, slice_tensor
from supernets.space.cost import lies_in

_invalid = partial(SpaceError, code="sharing.invalid")
_MODULES = nn.ModuleDict()
EXPERT_DEVIATION = 0.1
"""Deviation of the experts that are made of one trained network, as a share of the deviation of each tensor."""


class Mixture(nn.Module):
    """The routers of mixed layers (Jawahar et al. 2023, Mixture-of-Supernets, arXiv 2306.04845).

    A mixed layer's weight and bias are sums of its experts' with coefficients that a router computes from the architecture,
    never from data, so that every subnet is one plain network. By layer, one router per block gives one coefficient per
    expert for all of the block's mixed layers; by neuron, one router per layer gives each output its own coefficients.

    Departures from the paper: any convolution or linear layer can be mixed, not only feed-forward layers of transformers;
    the encoding is the space's (one-hot and ordinal columns); fresh experts are scaled by the square root of their number,
    so that their mean has the variance of one network's weights; experts of a trained network differ by noise, without which
    routers had no gradient, but whose mixture for the largest network is zero.

    Args:
        family: Family of the networks.
        spec: Description of the mixture.
        template: The largest network.

    Raises:
        SpaceError: no layer can be mixed, or a pattern of `spec.layers` matches none.
    """

    def __init__(self, family: Family, spec: MixtureSpec, template: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self._family = family
        self.layers = _mixed_layers(family, spec.layers, template)
        self.experts = spec.experts
        self._router_of: dict[str, str] = {}
        self._outputs: dict[str, Dim] = {}
        """The dimension of the outputs that get their own coefficients, by router; 1 if all outputs share them."""
        for layer in self.layers:
            by_neuron = spec.routing == "neuron"
            name = layer if by_neuron else _block_of(family, layer)
            self._router_of[layer] = name
            self._outputs[name] = family.dims()[f"{layer}.weight"][0] if by_neuron else 1
        self._n_columns = family.space.encode([family.space.largest]).shape[1]
        # All routers read the same encoding: one layer holds their hidden layers, in the routers' order.
        self.router_hidden = nn.Linear(self._n_columns, len(self._outputs) * spec.hidden)
        full = full_sizes(family.axes)
        self.router_logits = nn.ModuleDict()
        for name, outputs in self._outputs.items():
            self.router_logits[_key(name)] = nn.Linear(spec.hidden, size_of(outputs, full) * spec.experts)

    def store_experts(self, template: nn.Module, *, fresh: bool) -> frozenset[str]:
        """Replaces the mixed layers' tensors by stacks (experts, *shape); returns their names.

        Args:
            fresh: Whether to initialise the experts independently; else they differ by noise (see `random_differences`), and
                the largest subnet's tensors equal the template's.
        """
        networks = [self._family.template() if fresh else template for _ in range(self.experts - 1)]
        scale = sqrt(self.experts) if fresh else 1.0
        # In a check without memory, on the meta device, there are no routers to mix by.
        coefficients_by_layer = {} if fresh or self.router_hidden.weight.is_meta else self._largest_coefficients()
        stacked = set()
        for layer in self.layers:
            for name, parameter in _module(template, layer).named_parameters(prefix=layer, recurse=False):
                leaf = name.rpartition(".")[2]
                of_networks = (_module(network, layer)._parameters[leaf] for network in networks)
                experts = [parameter, *(cast(nn.Parameter, tensor) for tensor in of_networks)]
                stack = torch.stack([expert.detach() for expert in experts]) * scale
                # The family's template may have no weights either.
                if layer in coefficients_by_layer and not stack.is_meta:
                    stack += random_differences(parameter.detach(), coefficients_by_layer[layer].to(stack))
                _module(template, layer)._parameters[leaf] = nn.Parameter(stack)
                stacked.add(name)
        return frozenset(stacked)

    @torch.no_grad()
    def _largest_coefficients(self) -> dict[str, Tensor]:
        """The coefficients of the largest network."""
        return self.coefficients(self._family.space.largest)

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of the routers' tensors."""
        n_hidden = len(self._outputs) * self.spec.hidden
        dims: dict[str, tuple[Dim, ...]] = {}
        dims["router_hidden.weight"], dims["router_hidden.bias"] = (n_hidden, self._n_columns), (n_hidden,)
        for name in self._outputs:
            weight, bias = self._logit_dims(name)
            dims[f"router_logits.{_key(name)}.weight"], dims[f"router_logits.{_key(name)}.bias"] = weight, bias
        return dims

    def _logit_dims(self, name: str) -> tuple[tuple[Dim, ...], tuple[Dim, ...]]:
        """Returns the dimensions of the weight and the bias of a router's last layer.

        Its rows are (outputs, experts), so that the rows of the first outputs are a slice.
        """
        logits: Dim = (self._outputs[name], self.experts)
        return (logits, self.spec.hidden), (logits,)

    def coefficients(self, architecture: Architecture) -> dict[str, Tensor]:
        """The coefficients of each mixed layer of the architecture: (outputs, experts), or (1, experts); rows sum to 1."""
        family = self._family
        sizes, dropped = family.sizes(architecture), family.dropped(architecture)
        absent = tuple(f"{name}." for name in dropped)
        present_layers = [layer for layer in self.layers if not f"{layer}.".startswith(absent)]
        needed = {self._router_of[layer] for layer in present_layers}
        hidden = functional.relu(self.router_hidden(self._encoding(architecture))).view(len(self._outputs), -1)
        hidden_by_router = zip(self._outputs, hidden.unbind(), strict=True)
        logits = {
            name: self._logits(name, hidden_row, sizes) for name, hidden_row in hidden_by_router if name in needed
        }
        if not logits:  # the network lacks all blocks with mixed layers
            return {}
        # One softmax for all routers: they are so small that the number of operations dominates their cost.
        coefficients = torch.cat([*logits.values()]).view(-1, self.experts).softmax(dim=1)
        n_outputs = [len(router_logits) // self.experts for router_logits in logits.values()]
        of_router = dict(zip(logits, coefficients.split(n_outputs), strict=True))
        return {layer: of_router[self._router_of[layer]] for layer in present_layers}

    def _encoding(self, architecture: Architecture) -> Tensor:
        """The routers' input: (1, columns)."""
        encoding = torch.from_numpy(self._family.space.encode([architecture])).to(self.router_hidden.weight)
        return torch.full_like(encoding, 0.5) if self.spec.constant_input else encoding

    def _logits(self, name: str, hidden: Tensor, sizes: Sizes) -> Tensor:
        """A router's logits, (outputs * experts,), from its hidden activations, (hidden,)."""
        layer, dims = cast(nn.Linear, self.router_logits[_key(name)]), self._logit_dims(name)
        weight, bias = (
            slice_tensor(tensor, tensor_dims, self._family.axes, sizes)
            for tensor, tensor_dims in zip((layer.weight, layer.bias), dims, strict=True)
        )
        return torch.addmv(bias, weight, hidden)


def random_differences(tensor: Tensor, coefficients: Tensor) -> Tensor:
    """Random differences of experts from a tensor, (experts, *shape), whose mixture with these coefficients is zero.

    All but the first are normal, with `EXPERT_DEVIATION` times the deviation of the tensor's values.

    Args:
        coefficients: Factors of the experts, see `mixed`.
    """
    noise = torch.randn(coefficients.shape[1], *tensor.shape, device=tensor.device) * (
        EXPERT_DEVIATION * tensor.std(correction=0)
    )
    noise[0] = 0
    noise[0] = -mixed(noise, coefficients) / coefficients[:, 0].view(-1, *[1] * (tensor.ndim - 1))
    return noise


def mixed(stack: Tensor, coefficients: Tensor) -> Tensor:
    """The sum of a stack's experts, weighted by coefficients.

    Args:
        stack: (experts, outputs, ...).
        coefficients: (outputs, experts), or (1, experts) for all outputs.
    """
    if len(coefficients) == 1:
        return (coefficients @ stack.flatten(1)).view(stack.shape[1:])
    factors = coefficients.T.view(len(stack), -1, *[1] * (stack.ndim - 2))
    # All products at once: adding expert by expert makes the backward twice as slow.
    return (stack * factors).sum(dim=0)


def _mixed_layers(family: Family, patterns: Sequence[str], template: nn.Module) -> tuple[str, ...]:
    """Names of the layers to mix, in the template's order."""
    layers, dims = _plain_layers(family, template), family.dims()
    if not patterns:
        elastic_layers = tuple(name for name in layers if axes_in(dims[f"{name}.weight"]))
        if not elastic_layers:
            raise _invalid("mixture: no convolution or linear layer has an elastic axis; set mixture.layers")
        return elastic_layers
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            examples = ", ".join(layers[:4])
            raise _invalid(
                f"mixture.layers: {pattern!r} matches no convolution or linear layer; expected {examples}, ..."
            )
    return tuple(name for name in layers if any(fnmatchcase(name, pattern) for pattern in patterns))


def _plain_layers(family: Family, template: nn.Module) -> list[str]:
    """Names of the convolutions and linear layers that have a weight, whose outputs come first, and perhaps a bias alone."""
    layers = []
    for name, (output, _) in family.matrices.items():
        layer, _, leaf = name.rpartition(".")
        if layer and leaf == "weight" and output == 0:
            parameters = {key for key, _ in _module(template, layer).named_parameters(recurse=False)}
            layers += [layer] if parameters <= {"weight", "bias"} else []
    return layers


def _block_of(family: Family, layer: str) -> str:
    """The block that contains a layer; the layer itself if none does."""
    return next((block for block in family.blocks if lies_in(layer, [block])), layer)


def _key(name: str) -> str:
    """A module's name as one inside a ModuleDict: without dots, and none of its own attributes, such as ``keys``."""
    key = name.replace(".", "/")
    return f"{key}/" if hasattr(_MODULES, key) else key


def _module(template: nn.Module, path: str) -> nn.Module:
    """The module of a path; torch's `get_submodule` finds no module with the name of a method."""
    return reduce(lambda module, part: cast(nn.Module, module._modules[part]), path.split("."), template)
