"""Importance of units by what their removal costs after the layers that read them are corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from supernets.networks.capture.execution import values_of
from supernets.networks.capture.program import BATCH, Call, Program, Ref
from supernets.networks.network import network_of
from supernets.networks.threads import one_thread
from supernets.sharing.base import Supernet
from supernets.sharing.sorting import importance
from supernets.space.axes import axes_in, axis_indices

_MAX_EXAMPLES = 512
_POSITIONS = 64
"""Pixels or tokens of an example whose inputs are read, at most."""
_RIDGE = 1e-2
"""Share of the mean second moment that is added to all."""
_CHUNK = 32


@dataclass
class _Moments:
    """Sums over the rows that a layer reads, each of n inputs: their number, the rows, and their products, (n, n)."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    products: Tensor = field(default_factory=lambda: torch.zeros(1, 1, dtype=torch.float64))

    def add(self, rows: Tensor) -> None:
        rows = rows.double()
        self.count += len(rows)
        self.total = self.total + rows.sum(0)
        self.products = self.products + rows.T @ rows

    @property
    def covariance(self) -> Tensor:
        mean = self.total / self.count
        return self.products / self.count - mean[:, None] * mean


@torch.no_grad()
def removal_importance(supernet: Supernet, batches: Sequence[Tensor]) -> dict[str, Tensor]:
    """The importance of each index of each prefix axis: how late it is removed while the cheapest removal goes first.

    A removal costs, of each linear layer and convolution (grouped ones apart) that reads the axis, the least increase of the
    mean squared error of its outputs when its other weights are fitted again, as a share of their variance: the trace of
    ``w (H⁻¹)⁻¹ w`` over the inputs of the unit, with the covariance H of what the layer reads in the largest network. Weights
    and H⁻¹ then follow, so that of two equal units one stays: Optimal Brain Surgeon (Hassibi and Stork 1993) for groups of
    weights, as of Kurtic et al. (2023, arXiv 2302.04089), without labels. Exact for one layer after another.

    Args:
        supernet: The supernet; it is set to evaluation mode.
        batches: Inputs, (n, ...) each; the first ones are read.

    Returns:
        (size,) for each prefix axis of a convolution or linear layer; `importance` for those that no such layer reads.
    """
    supernet.eval()
    largest = supernet.space.largest
    family, _ = supernet.family.plain(largest)
    elastic = family.programs().of().elastic
    network = network_of(supernet.extract(largest), batches[0][:2])
    calls = {call.outputs[0]: call for call in network.program.calls if _reads(call, network.program)}
    moments = {name: _Moments() for name in calls}
    inputs = torch.cat(list(batches))[:_MAX_EXAMPLES]
    generator = torch.Generator().manual_seed(0)
    with one_thread():
        for chunk in inputs.split(_CHUNK):
            names = network.program.input_dims[0] if network.program.input_dims else (BATCH,)
            sizes = {name: size for name, size in zip(names, chunk.shape, strict=False) if name}
            read = {cast(Ref, call.arguments["input"]).name for call in calls.values()}
            values = values_of(network.program, list(read), network.tensors.__getitem__, [chunk], sizes)
            for name, call in calls.items():
                moments[name].add(
                    _rows(call, values[cast(Ref, call.arguments["input"]).name], network.tensors, generator)
                )
    readers: dict[str, list[_Reader]] = {}
    for name, call in calls.items():
        weight_name = cast(Ref, call.arguments["weight"]).name
        weight, dim = network.tensors[weight_name], elastic.dims[weight_name][1]
        for axis in axes_in(dim):
            indices = axis_indices(dim, elastic.axes, axis).repeat_interleave(weight[0, 0].numel())
            readers.setdefault(axis, []).append(_Reader.of(weight.flatten(1), moments[name].covariance, indices))
    importance_by_axis = importance(supernet)
    return {
        axis: _eliminated(readers[axis]) if axis in readers else values for axis, values in importance_by_axis.items()
    }


@dataclass
class _Reader:
    """A layer that reads an axis, while units of it are removed.

    Attributes:
        weights: (outputs, inputs), fitted again after each removal.
        inverse: Inverse of the covariance of the inputs that are left, (inputs, inputs); zero for others.
        units: Inputs of each unit, (n_units, inputs of a unit).
    """

    weights: Tensor
    inverse: Tensor
    units: Tensor

    @classmethod
    def of(cls, weights: Tensor, covariance: Tensor, indices: Tensor) -> _Reader:
        """The reader before any removal, its outputs scaled to a variance of 1 in sum.

        Args:
            indices: The unit of each input; -1 for inputs of none.
        """
        covariance = covariance + _RIDGE * covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(covariance))
        weights = weights.double()
        variance = ((weights @ covariance) * weights).sum().clamp(min=1e-300)
        order = indices.argsort(stable=True)[int((indices < 0).sum()) :]
        return cls(weights / variance.sqrt(), torch.linalg.inv(covariance), order.view(int(indices.max()) + 1, -1))

    def costs(self, units: Tensor) -> Tensor:
        """The cost of removing each of some units, (n,)."""
        places = self.units[units]
        inverses, weights = self.inverse[places[:, :, None], places[:, None]], self.weights[:, places].movedim(0, 2)
        costs: Tensor = (weights * torch.linalg.solve(inverses, weights)).sum((1, 2))
        return costs

    def remove(self, unit: int) -> None:
        """Removes a unit and fits the other weights again."""
        places = self.units[unit]
        gain = torch.linalg.solve(self.inverse[places][:, places], self.inverse[places])
        self.weights = self.weights - self.weights[:, places] @ gain
        self.inverse = self.inverse - self.inverse[:, places] @ gain


def _eliminated(readers: Sequence[_Reader]) -> Tensor:
    """The step in which each unit of an axis is removed, (n_units,), always the one whose removal costs least."""
    left = torch.arange(len(readers[0].units))
    steps = torch.zeros(len(left))
    for step in range(len(left) - 1):
        costs = sum((reader.costs(left) for reader in readers), torch.zeros(len(left), dtype=torch.float64))
        unit = int(left[costs.argmin()])
        steps[unit] = step
        left = left[left != unit]
        for reader in readers:
            reader.remove(unit)
    steps[left] = len(steps) - 1
    return steps


def _reads(call: Call, program: Program) -> bool:
    """Returns whether a call is a linear layer, or a convolution without groups, of a stored weight."""
    weight = call.arguments.get("weight")
    if (
        call.name not in ("linear", "conv1d", "conv2d")
        or not isinstance(weight, Ref)
        or weight.name not in program.trainable
    ):
        return False
    if call.name == "linear":
        return call.outputs[0] not in program.state_values
    return call.arguments.get("groups", 1) == 1 and not isinstance(call.arguments["padding"], str)


def _rows(call: Call, x: Tensor, tensors: object, generator: torch.Generator) -> Tensor:
    """What a layer reads for some positions of its outputs, (rows, inputs)."""
    if call.name == "linear":
        rows = x.reshape(len(x), -1, x.shape[-1])
    else:
        kernel = cast(dict[str, Tensor], tensors)[cast(Ref, call.arguments["weight"]).name].shape[2:]
        pairs = {name: _pair(call.arguments[name], len(kernel)) for name in ("dilation", "padding", "stride")}
        if len(kernel) == 1:
            x, kernel = x[:, :, None], torch.Size((1, *kernel))
            pairs = {name: (int(name != "padding"), *pair) for name, pair in pairs.items()}
        rows = functional.unfold(x, tuple(kernel), **pairs).transpose(1, 2)
    if rows.shape[1] > _POSITIONS:
        rows = rows[:, torch.randperm(rows.shape[1], generator=generator)[:_POSITIONS]]
    return rows.reshape(-1, rows.shape[-1])


def _pair(argument: object, n: int) -> tuple[int, ...]:
    numbers = cast(tuple[int, ...], argument if isinstance(argument, tuple) else (argument,))
    return numbers * n if len(numbers) == 1 else numbers
