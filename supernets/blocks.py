"""Keys of equal blocks over a search space, for tables of block latencies, and the blocks' models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from supernets.axes import axes_in
from supernets.base import Supernet
from supernets.cost import lies_in
from supernets.errors import LoweringError
from supernets.families.captured.family import CapturedFamily
from supernets.families.single_network import innermost
from supernets.graph import BlockModel, block_keys, input_shape_of, lower_blocks
from supernets.space import Architecture

_Combinations = tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]
"""Distinct combinations of presence, next block, dropped parts and axis sizes over n networks, (m, d); the first network
with each, (m,); and the combination of each network, (n,)."""


class BlockKeys:
    """The keys of a supernet's blocks, by architecture.

    A block's computation depends on the sizes of its tensors' axes and of the geometry, on its dropped parts and on the
    next block. So each combination of these is lowered once, and then looked up.

    Args:
        supernet: its weights are read when `model` is called.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet
        family = supernet.family
        self.blocks = family.blocks
        self._input_shape = input_shape_of(family.example())
        self._axes = [_axes_of(supernet, block) for block in self.blocks]
        plain, _ = innermost(family, family.space.largest)
        self._captured = plain if isinstance(plain, CapturedFamily) else None
        self._known: dict[tuple[int, bytes], str] = {}
        """Keys by block and combination; "" if the block is absent or computes nothing."""
        self._parts: dict[frozenset[str], int] = {frozenset(): 0}
        self._examples: dict[str, tuple[Architecture, str]] = {}
        """By key, an architecture that has such a block, and the block's name."""

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
                if (block, combination.tobytes()) not in self._known:
                    self._add(architectures[example], [table[which[example]] for table, _, which in by_block])
            keys = np.array([self._known[block, combination.tobytes()] for combination in distinct], dtype=np.str_)
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
        (model,) = lower_blocks(self._network(architecture), self._input_shape, self.blocks, only=[name])
        return model

    def _network(self, architecture: Architecture) -> nn.Module:
        """A network that can be lowered; of a captured one, only its extracted form has calls of plain sizes."""
        with torch.no_grad():
            if self._captured is None:
                return self._supernet.subnet(architecture).eval()
            return self._supernet.extract(architecture)

    def _combinations(self, architectures: Sequence[Architecture]) -> list[_Combinations]:
        """The combination of each network, by block."""
        out: list[_Combinations] = []
        for table in self._tables(architectures):
            distinct, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
            out.append((distinct, first, inverse.reshape(-1)))
        return out

    def _tables(self, architectures: Sequence[Architecture]) -> list[NDArray[np.int64]]:
        """What decides on the computation of each block in n networks, (n, d)."""
        if self._captured is not None:
            own = [innermost(self._supernet.family, architecture)[1] for architecture in architectures]
            return self._captured.block_variants(own)
        sizes = self._supernet.axis_sizes(architectures)
        dropped = [self._supernet.family.dropped(architecture) for architecture in architectures]
        present = np.array([[not lies_in(block, names) for block in self.blocks] for names in dropped])
        following = _following(present)
        out = []
        for block, (name, axes) in enumerate(zip(self.blocks, self._axes, strict=True)):
            # Operations without parameters before the next block belong to this one.
            properties = [following[:, block], self._lacking(name, dropped), *(sizes[axis] for axis in axes)]
            here = present[:, block]
            # An absent block has one combination: the sizes of its axes do not matter.
            out.append(np.stack([here, *(own * here for own in properties)], axis=1))
        return out

    def _lacking(self, block: str, dropped: Sequence[frozenset[str]]) -> NDArray[np.int64]:
        """A number for the parts of a block that each network lacks: 0 for none, equal in every call for equal parts."""
        if not any(name.startswith(f"{block}.") for name in frozenset().union(*dropped)):
            return np.zeros(len(dropped), dtype=np.int64)
        parts = [frozenset(name for name in drop if name.startswith(f"{block}.")) for drop in dropped]
        return np.array([self._parts.setdefault(lacking, len(self._parts)) for lacking in parts], dtype=np.int64)

    def _add(self, architecture: Architecture, combinations: Sequence[NDArray[np.int64]]) -> None:
        """Lowers one network and keeps the keys of all its blocks by their combinations."""
        keys = block_keys(self._network(architecture), self._input_shape, self.blocks)
        for block, (name, combination) in enumerate(zip(self.blocks, combinations, strict=True)):
            key = keys.get(name, "")
            known = self._known.setdefault((block, combination.tobytes()), key)
            if known != key:
                problem = f"block {name} of {architecture.key} differs from that of a network with equal axis sizes"
                raise LoweringError(f"{problem}; add the missing axis to its dims", code="family.inconsistent")
            if key:
                self._examples.setdefault(key, (architecture, name))


def _axes_of(supernet: Supernet, block: str) -> list[str]:
    """The axes that a block's computation depends on, in the family's order."""
    family = supernet.family
    found = {axis for name, dims in family.dims().items() if name.startswith(f"{block}.") for axis in axes_in(dims)}
    found.update(family.geometry)
    return [axis for axis in family.axes if axis in found]


def _following(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The index of the next present block after each, (n, n_blocks); n_blocks after the last."""
    n_blocks = present.shape[1]
    own = np.pad(np.where(present, np.arange(n_blocks), n_blocks)[:, 1:], ((0, 0), (0, 1)), constant_values=n_blocks)
    return np.minimum.accumulate(own[:, ::-1], axis=1)[:, ::-1]
