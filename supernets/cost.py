"""Exact costs of subnets, computed from axes: parameters, multiply-accumulates and activation bytes, per block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.axes import Dim, sizes_of_many

Counts = NDArray[np.int64]
_BYTES_PER_ACTIVATION = 4  # fp32


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs for one example.

    Attributes:
        parameters: trainable numbers.
        macs: multiply-accumulates of convolutions and linear layers.
        activation_bytes: sum of the fp32 outputs of convolutions and linear layers (a runtime folds normalisations and
            activations into them).
        blocks: the same three figures by block, in order; () for a block itself.
    """

    parameters: int
    macs: int
    activation_bytes: int
    blocks: tuple[tuple[str, Cost], ...] = ()


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs of many networks, each (n, n_blocks), in the blocks' order; zero where a network lacks the block."""

    blocks: tuple[str, ...]
    parameters: Counts
    macs: Counts
    activation_bytes: Counts


@dataclass(frozen=True, slots=True)
class _Layer:
    block: int
    module: str
    parameters: tuple[tuple[Dim, ...], ...]
    weight: tuple[Dim, ...] | None  # of a convolution or linear layer
    positions: int  # output positions a channel


class CostModel:
    """Costs of every subnet, from one recorded forward of the largest network.

    Args:
        template: the largest network; run once, in eval mode, on `example`.
        dims: the dimensions of every parameter and buffer.
        blocks: module names that together contain every parameter; each figure is also given by block.
        example: (1, ...) an input.
    """

    def __init__(
        self, template: nn.Module, dims: Mapping[str, tuple[Dim, ...]], blocks: Sequence[str], example: Tensor
    ) -> None:
        self.blocks = tuple(blocks)
        positions = _record_positions(template, example)
        self._layers: list[_Layer] = []
        for name, module in template.named_modules():
            own = tuple(
                dims[f"{name}.{parameter}" if name else parameter]
                for parameter, _ in module.named_parameters(recurse=False)
            )
            if not own:
                continue
            block = next((i for i, b in enumerate(self.blocks) if name == b or name.startswith(f"{b}.")), None)
            if block is None:
                raise ValueError(f"module {name!r} is in none of the blocks {self.blocks}")
            counted = name in positions
            self._layers.append(
                _Layer(block, name, own, dims[f"{name}.weight"] if counted else None, positions.get(name, 0))
            )

    def costs(self, sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]) -> CostTable:
        """Costs of n networks, given their axis sizes, each (n,), and the modules that each lacks."""
        n = len(dropped)
        parameters = np.zeros((n, len(self.blocks)), dtype=np.int64)
        macs, activations = np.zeros_like(parameters), np.zeros_like(parameters)
        present = {
            block: np.array(
                [not any(block == d or block.startswith(f"{d}.") for d in drop) for drop in dropped], dtype=np.int64
            )
            for block in self.blocks
        }
        for layer in self._layers:
            here = present[self.blocks[layer.block]]
            for dims in layer.parameters:
                parameters[:, layer.block] += here * sizes_of_many(dims, sizes)
            if layer.weight is not None:
                macs[:, layer.block] += here * sizes_of_many(layer.weight, sizes) * layer.positions
                channels = sizes_of_many(layer.weight[0], sizes)
                activations[:, layer.block] += here * channels * layer.positions * _BYTES_PER_ACTIVATION
        return CostTable(self.blocks, parameters, macs, activations)

    def cost(self, sizes: Mapping[str, int], dropped: frozenset[str]) -> Cost:
        """Costs of one network, total and by block (blocks that it lacks are left out)."""
        table = self.costs({name: np.array([size]) for name, size in sizes.items()}, [dropped])
        rows = np.stack([table.parameters[0], table.macs[0], table.activation_bytes[0]], axis=1).tolist()
        kept = [(name, Cost(*row)) for name, row in zip(self.blocks, rows, strict=True) if any(row)]
        parameters, macs, activations = (sum(row[i] for row in rows) for i in range(3))
        return Cost(parameters, macs, activations, tuple(kept))


def _record_positions(template: nn.Module, example: Tensor) -> dict[str, int]:
    """Output positions a channel of every convolution and linear layer, by module name."""
    positions: dict[str, int] = {}
    handles = []
    for name, module in template.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):

            def record(module: nn.Module, _: object, output: Tensor, name: str = name) -> None:
                spatial = output.shape[2:] if isinstance(module, nn.Conv2d) else output.shape[1:-1]
                positions[name] = prod(spatial)

            handles.append(module.register_forward_hook(record))
    was_training = template.training
    try:
        with torch.no_grad():
            template.eval()(example)
    finally:
        template.train(was_training)
        for handle in handles:
            handle.remove()
    return positions
