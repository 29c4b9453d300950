"""Experts of layers that are merged into fewer, where networks keep fewer of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from supernets.errors import SpaceError
from supernets.experts.expert_weights import ExpertWeights
from supernets.experts.layer import ExpertLayer
from supernets.experts.merging import aligned_in_turn, merging_weights, nested_groups
from supernets.sharing.base import Family
from supernets.sharing.kernels import sizes_of_axes
from supernets.space.axes import Dim

MAX_TOKENS = 2**13
"""Number of tokens of examples that the usage and the similarity of experts are measured on."""
_BATCH_SIZE = 16
"""Number of examples that a network reads at once."""


class ExpertMerging(nn.Module):
    """The factors with which a layer's experts, and the rows of its router, are added up to those of a smaller network.

    A layer that keeps n experts has the n most used ones, each the mean, weighted by usage, of those that are merged into it:
    the others join the one whose logits are most similar (Li et al. 2024, MC-SMoE, arXiv 2310.01334). Departures: groups are
    nested, so that one order of an expert's neurons serves all numbers (`nested_groups`); the router has as many rows as
    experts (`merging_weights`); usage is that of a network with the fewest experts for each token, because with all of them it
    is equal. Until `fit` is called, layers keep their first experts.

    Args:
        template: the largest network.

    Raises:
        SpaceError: no layer of experts may keep fewer of them, or their gates are equal.
    """

    def __init__(self, family: Family, template: nn.Module) -> None:
        super().__init__()
        sizes, dims = sizes_of_axes(family), family.dims()
        self._layers: dict[str, tuple[str, list[int], int]] = {}
        """The axis of the number of experts, its smaller sizes, and the minimum number of a token's experts, by layer."""
        for name, module in template.named_modules():
            if isinstance(module, ExpertLayer):
                if module.gates == "equal":
                    raise _invalid("experts with equal gates add up to an MLP, and means of them do not; remove it")
                if module.router is None:
                    raise _invalid("experts are merged by the routers of their layers, and these have none; remove it")
                axis, active = (str(dims[f"{name}.{tensor}"][0]) for tensor in ("router.weight", "active"))
                full = family.axes[axis].size
                self._layers[name] = axis, sorted(sizes[axis] - {full}), min(sizes[active])
                for n in self._layers[name][1]:
                    self.register_buffer(_key(axis, n), torch.eye(n, full))
        if not self._buffers:
            problem = "layers that keep fewer experts have merged ones, and no layer of this space keeps fewer"
            raise _invalid(f"{problem}; give space.experts several options, or remove it")
        self.axes = frozenset(axis for axis, *_ in self._layers.values())
        """The axes of the numbers of experts that layers keep."""

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of the factors: (experts kept, experts)."""
        return {
            name: (len(factors), name.rpartition("/")[0].replace("/", ".")) for name, factors in self.named_buffers()
        }

    def merged(self, tensor: Tensor, dim: Dim, sizes: Mapping[str, int]) -> Tensor:
        """A tensor of all experts of a layer, (experts, ...), as of the layer of a network; any other tensor unchanged.

        Args:
            tensor: A stored tensor.
            dim: Its first dimension.
            sizes: Sizes of the network's axes.
        """
        if not isinstance(dim, str) or dim not in self.axes or sizes[dim] == len(tensor):
            return tensor
        merged_experts: Tensor = torch.tensordot(self.get_buffer(_key(dim, sizes[dim])), tensor, 1)
        return merged_experts

    @torch.no_grad()
    def fit(self, stored: nn.Module, network: nn.Module, batches: Sequence[Tensor]) -> None:
        """Aligns the neurons of stored experts, and sets the factors, in place; the largest network's outputs do not change.

        Args:
            stored: The network whose experts are aligned.
            network: The largest network, in evaluation mode.
            batches: Inputs, of whose first ones about `MAX_TOKENS` tokens are read.
        """
        for name, logits in _routed(network, batches, list(self._layers)).items():
            (axis, numbers, k), layer = self._layers[name], cast(ExpertLayer, stored.get_submodule(name))
            sent = torch.zeros_like(logits).scatter_(1, logits.topk(k, dim=1).indices, 1.0)
            usage = sent.double().mean(0).numpy()
            grouping = nested_groups(logits.T.double().numpy(), usage, numbers)
            _replace(layer, aligned_in_turn(layer.weights, grouping.joins, usage))
            for n, groups in grouping.groups.items():
                self.get_buffer(_key(axis, n)).copy_(merging_weights(groups, usage))


def _routed(network: nn.Module, batches: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """The logits of the router of each layer, (tokens, experts), by the layer's name."""
    logits_by_layer: dict[str, list[Tensor]] = {name: [] for name in names}

    def record(name: str, output: Tensor) -> None:
        logits_by_layer[name].append(output.flatten(0, -2))

    routers = [network.get_submodule(f"{name}.router") for name in names]
    for name, router in zip(names, routers, strict=True):
        router.register_forward_hook(lambda _, __, output, name=name: record(name, output))
    for inputs in (part for batch in batches for part in batch.split(_BATCH_SIZE)):
        if sum(map(len, logits_by_layer[names[0]])) >= MAX_TOKENS:
            break
        network(inputs)
    return {name: torch.cat(logits)[:MAX_TOKENS] for name, logits in logits_by_layer.items()}


def _replace(layer: ExpertLayer, experts: ExpertWeights) -> None:
    """Gives a layer other experts, in place."""
    for name in ("up", "down", "gate", "up_bias"):
        replacement = getattr(experts, name)
        if replacement is not None:
            getattr(layer, name).copy_(replacement)


def _key(axis: str, n: int) -> str:
    """The name of the factors of a layer that keeps n experts; buffers' names have no dots."""
    return f"{axis.replace('.', '/')}/{n}"


def _invalid(problem: str) -> SpaceError:
    return SpaceError(f"experts: {problem}", code="sharing.invalid")
