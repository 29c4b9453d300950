"""Exact parameters, multiply-accumulates and activation bytes of subnets, computed from axes, per block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.axes import Dim, size_of
from supernets.space import Architecture

Counts = NDArray[np.int64]
BYTES_PER_ACTIVATION = 4  # fp32


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a network for one example.

    Attributes:
        parameters: number of trainable scalars.
        macs: multiply-accumulates of convolutions, linear layers and attention's two products.
        activation_bytes: of the fp32 outputs of convolutions and linear layers (runtimes fold normalisations and
            activations into them).
        blocks: the same three costs by block, in order; () for a block itself.
    """

    parameters: int
    macs: int
    activation_bytes: int
    blocks: tuple[tuple[str, Cost], ...] = ()


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs of n networks, each (n, n_blocks), in the blocks' order; zero if a network lacks the block."""

    blocks: tuple[str, ...]
    parameters: Counts
    macs: Counts
    activation_bytes: Counts

    def cost(self, i: int) -> Cost:
        """The i-th network's costs, total and by block; blocks that it lacks are absent."""
        by_block = np.stack([self.parameters[i], self.macs[i], self.activation_bytes[i]], axis=1)
        named = zip(self.blocks, by_block.tolist(), strict=True)
        blocks = tuple((name, Cost(*costs)) for name, costs in named if any(costs))
        parameters, macs, activation_bytes = by_block.sum(axis=0).tolist()
        return Cost(parameters, macs, activation_bytes, blocks)


@dataclass(frozen=True, slots=True)
class Products:
    """The matrix products of a module that is neither a convolution nor a linear layer, at each position of its output.

    Attributes:
        macs: dimensions whose product is the multiply-accumulates.
        outputs: the numbers that the products return; None if they are not counted.
    """

    macs: tuple[Dim, ...]
    outputs: Dim | None


@dataclass(frozen=True, slots=True)
class _Layer:
    """A module with parameters or multiply-accumulates.

    Attributes:
        products: dimensions whose product, times the output positions, is the multiply-accumulates; None if there are none.
        outputs: channels at each output position; None if its output is not counted.
    """

    block: int
    module: str
    parameters: tuple[tuple[Dim, ...], ...]
    products: tuple[Dim, ...] | None
    outputs: Dim | None


class Costs(Protocol):
    """Computes the costs of networks from the sizes of their axes."""

    def costs(
        self, architectures: Sequence[Architecture], sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]
    ) -> CostTable:
        """Costs of n networks.

        Args:
            sizes: (n,) by axis.
            dropped: the modules that each network lacks.
        """


class CostModel:
    """Costs of every subnet, from one recorded forward of the largest network of each geometry.

    Args:
        template: the largest network; run once, in eval mode, on `example`.
        dims: the dimensions of every parameter and buffer.
        blocks: names of modules that together contain every parameter.
        example: (1, ...) an input.
        attention: query channels by attention module.
        like: returns the largest network with an architecture's geometry.
        geometry: axes on which the output positions depend.
        tied: linear layers without a tensor of their own, with the name of the weight that they read.
        products: of other modules, by name.
    """

    def __init__(
        self,
        template: nn.Module,
        dims: Mapping[str, tuple[Dim, ...]],
        blocks: Sequence[str],
        example: Tensor,
        *,
        attention: Mapping[str, Dim],
        like: Callable[[Architecture], nn.Module],
        geometry: Sequence[str] = (),
        tied: Mapping[str, str] | None = None,
        products: Mapping[str, Products] | None = None,
    ) -> None:
        self.blocks = tuple(blocks)
        self._attention, self._like, self._example, self._tied = attention, like, example, tied or {}
        self._products, self._geometry = products or {}, tuple(geometry)
        positions = self._record_positions(template)
        self._positions: dict[tuple[int, ...], Mapping[str, int]] = {(): positions}
        """Output positions by module, for each geometry (the sizes of its axes); () for families without one."""
        self._layers: list[_Layer] = []
        for name, module in template.named_modules():
            own = tuple(dims[parameter] for parameter, _ in module.named_parameters(prefix=name, recurse=False))
            if not own and name not in (*attention, *self._tied, *self._products):
                continue
            block = next((i for i, block in enumerate(self.blocks) if lies_in(name, [block])), None)
            if block is None:
                raise ValueError(f"module {name!r} is in none of the blocks {self.blocks}")
            if name in attention:
                self._layers.append(_Layer(block, name, own, (attention[name],), None))
            elif (of := self._products.get(name)) is not None:
                self._layers.append(_Layer(block, name, own, of.macs, of.outputs))
            else:
                weight = dims[self._tied.get(name, f"{name}.weight")] if name in positions else None
                self._layers.append(_Layer(block, name, own, weight, weight and weight[0]))

    def costs(
        self, architectures: Sequence[Architecture], sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]
    ) -> CostTable:
        """Costs of n networks, as of `Costs`."""
        n = len(architectures)
        parameters = np.zeros((n, len(self.blocks)), dtype=np.int64)
        macs, activations = np.zeros_like(parameters), np.zeros_like(parameters)
        lacking = {names: i for i, names in enumerate(dict.fromkeys(dropped))}  # of many networks, few different ones
        kept = np.array([[not lies_in(block, names) for block in self.blocks] for names in lacking], dtype=np.int64)
        present = kept.reshape(-1, len(self.blocks))[[lacking[names] for names in dropped]]
        recorded, which = self._recorded(architectures, sizes)
        for layer in self._layers:
            here = present[:, layer.block]
            for dims in layer.parameters:
                parameters[:, layer.block] += here * size_of(dims, sizes)
            if layer.products is not None:
                there = here * np.array([positions[layer.module] for positions in recorded], dtype=np.int64)[which]
                macs[:, layer.block] += there * size_of(layer.products, sizes)
                if layer.outputs is not None:
                    channels = size_of(layer.outputs, sizes)
                    activations[:, layer.block] += there * channels * BYTES_PER_ACTIVATION
        return CostTable(self.blocks, parameters, macs, activations)

    def _recorded(
        self, architectures: Sequence[Architecture], sizes: Mapping[str, Counts]
    ) -> tuple[list[Mapping[str, int]], NDArray[np.intp]]:
        """The positions of each distinct geometry, and the index of each network's geometry, (n,)."""
        if not self._geometry:
            return [self._positions[()]], np.zeros(len(architectures), dtype=np.intp)
        geometries = np.stack([sizes[name] for name in self._geometry], axis=1)
        distinct, first, which = np.unique(geometries, axis=0, return_index=True, return_inverse=True)
        keys = [tuple(geometry) for geometry in distinct.tolist()]
        for key, example in zip(keys, first.tolist(), strict=True):
            if key not in self._positions:
                with torch.random.fork_rng(devices=[]):  # its initialisation must not advance the global generator
                    network = self._like(architectures[example])
                self._positions[key] = self._record_positions(network)
        return [self._positions[key] for key in keys], which.reshape(-1)

    def _record_positions(self, template: nn.Module) -> dict[str, int]:
        """By module: output positions per channel of convolutions and linear layers, products per channel of attention."""
        named = {*self._attention, *self._tied, *self._products}
        positions: dict[str, int] = {}
        handles = []
        for name, module in template.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) or name in named:

                def record(module: nn.Module, _: object, output: Tensor, name: str = name) -> None:
                    if name in self._attention:  # (n, tokens, channels): queries by keys, and the scores by values
                        positions[name] = 2 * output.shape[1] ** 2
                    else:
                        positions[name] = prod(
                            output.shape[2:] if isinstance(module, nn.Conv2d) else output.shape[1:-1]
                        )

                handles.append(module.register_forward_hook(record))
        was_training = template.training
        try:
            with torch.no_grad():
                template.eval()(self._example)
        finally:
            template.train(was_training)
            for handle in handles:
                handle.remove()
        return positions


def lies_in(module: str, names: Iterable[str]) -> bool:
    """Whether a module is one of the named modules or inside one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)
