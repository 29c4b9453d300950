"""Keys of equal blocks over a search space, for tables of block latencies, and the blocks' models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from supernets.errors import LoweringError
from supernets.networks.network import BlockModel, Network, network_of
from supernets.sharing.base import Supernet, axis_sizes
from supernets.space import Architecture

_Combinations = tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]
"""Distinct combinations of presence, next block, dropped parts and axis sizes over n networks, (m, d); the first network
with each, (m,); and the combination of each network, (n,)."""


class BlockKeys:
    """The keys of a supernet's blocks, by architecture.

    A block's computation depends on the sizes of the axes of the values that it reads and computes, on its dropped parts and
    on the next block. So each combination of these is lowered once, and then looked up.

    Args:
        supernet: its weights are read when `model` is called.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet
        self.blocks = supernet.family.blocks
        self._key_by_combination: dict[tuple[int, bytes], str] = {}
        """Keys by block and combination; "" if the block is absent or computes nothing."""
        self._examples: dict[str, tuple[Architecture, str]] = {}
        """An architecture that has such a block, and the block's name, by key."""

    def of(self, architectures: Sequence[Architecture]) -> NDArray[np.str_]:
        """The keys of every block, (n, n_blocks), in the order of ``family.blocks``; "" if a network lacks it.

        Raises:
            LoweringError: a block has an operation without a rule, or returns more than one tensor.
        """
        if not architectures:
            return np.empty((0, len(self.blocks)), dtype=np.str_)
        by_block = self._combinations(architectures)
        columns = []
        for block, (distinct, first, inverse) in enumerate(by_block):
            for combination, example in zip(distinct, first, strict=True):
                if (block, combination.tobytes()) not in self._key_by_combination:
                    self._add(architectures[example], [table[which[example]] for table, _, which in by_block])
            keys = np.array(
                [self._key_by_combination[block, combination.tobytes()] for combination in distinct], dtype=np.str_
            )
            columns.append(keys[inverse])
        return np.stack(columns, axis=1)

    def model(self, key: str) -> BlockModel:
        """A block with this key and the weights of a subnet that has it.

        Raises:
            KeyError: no architecture given to `of` had such a block.
        """
        if key not in self._examples:
            raise KeyError(f"unknown block key {key!r}; first call `of` with an architecture that has the block")
        architecture, name = self._examples[key]
        (model,) = self._network(architecture).block_models(only=[name])
        return model

    def _network(self, architecture: Architecture) -> Network:
        """The network's program, divided into blocks, with its weights."""
        plain, inner = self._supernet.family.plain(architecture)
        source = plain.programs().of()
        if not source.exact:
            return network_of(self._supernet.extract(architecture), plain.example(2), plain.blocks)
        with torch.no_grad():
            tensors = {**self._supernet.weights(architecture), **source.constants}
            return Network(source.specialised(inner), tensors, source.block_of_value)

    def _combinations(self, architectures: Sequence[Architecture]) -> list[_Combinations]:
        """The combination of each network, by block."""
        by_block: list[_Combinations] = []
        for table in self._tables(architectures):
            distinct, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
            by_block.append((distinct, first, inverse.reshape(-1)))
        return by_block

    def _tables(self, architectures: Sequence[Architecture]) -> list[NDArray[np.int64]]:
        """Returns, for each block, the combinations that decide on its computation in n networks, (n, d)."""
        inner = [self._supernet.family.plain(architecture) for architecture in architectures]
        (plain, _), networks = inner[0], [network for _, network in inner]
        variants = (
            plain.programs().of().block_variants(axis_sizes(plain, networks), [plain.dropped(a) for a in networks])
        )
        return [variants[plain.blocks.index(block)] for block in self.blocks]

    def _add(self, architecture: Architecture, combinations: Sequence[NDArray[np.int64]]) -> None:
        """Lowers one network and keeps the keys of all its blocks by their combinations."""
        keys = self._network(architecture).block_keys()
        for block, (name, combination) in enumerate(zip(self.blocks, combinations, strict=True)):
            key = keys.get(name, "")
            first_key = self._key_by_combination.setdefault((block, combination.tobytes()), key)
            if first_key != key:
                problem = f"block {name} of {architecture.key} differs from that of a network with equal axis sizes"
                raise LoweringError(f"{problem}; add the missing axis to its dims", code="family.inconsistent")
            if key:
                self._examples.setdefault(key, (architecture, name))
