"""Parameters, multiply-accumulates and activation bytes of networks, per block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
BYTES_PER_ACTIVATION = 4  # fp32


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a network for one example.

    Attributes:
        parameters: number of trainable scalars.
        macs: multiply-accumulates of convolutions, linear layers and attention's two products.
        activation_bytes: Bytes of the fp32 outputs of convolutions and linear layers (runtimes fold normalisations and
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

    def of_blocks(self, blocks: Sequence[str]) -> CostTable:
        """The costs of some of the blocks."""
        if tuple(blocks) == self.blocks:
            return self
        chosen = [self.blocks.index(block) for block in blocks]
        return CostTable(
            tuple(blocks), self.parameters[:, chosen], self.macs[:, chosen], self.activation_bytes[:, chosen]
        )

    def cost(self, i: int) -> Cost:
        """The i-th network's costs, total and by block; blocks that it lacks are absent."""
        by_block = np.stack([self.parameters[i], self.macs[i], self.activation_bytes[i]], axis=1)
        block_costs = zip(self.blocks, by_block.tolist(), strict=True)
        blocks = tuple((name, Cost(*costs)) for name, costs in block_costs if any(costs))
        parameters, macs, activation_bytes = by_block.sum(axis=0).tolist()
        return Cost(parameters, macs, activation_bytes, blocks)


def lies_in(module: str, names: Iterable[str]) -> bool:
    """Returns True if a module is one of the named modules or inside one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)
