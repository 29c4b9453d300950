"""Which blocks of a space compute the same: keys for a table of block latencies, and the blocks' models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from supernets.axes import axes_in
from supernets.base import Supernet
from supernets.errors import LoweringError
from supernets.graph import BlockModel, block_keys, input_shape_of, lower_blocks
from supernets.space import Architecture


@dataclass(frozen=True, slots=True)
class _Combinations:
    """What decides a block's key, over n networks.

    Attributes:
        rows: (m, d) the distinct combinations: presence, the next block, the parts that it lacks, its axes' sizes.
        first: (m,) a network that has each.
        inverse: (n,) which of them each network has.
    """

    rows: NDArray[np.int64]
    first: NDArray[np.intp]
    inverse: NDArray[np.intp]


class BlockKeys:
    """The keys of a supernet's blocks, by architecture.

    What a block computes depends on the sizes of the axes that its tensors have and of the geometry's, on its dropped parts
    and on what comes next, so that it is lowered once for each combination of those, and looked up ever after.

    Args:
        supernet: its weights are read when a model is asked for.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet
        family = supernet.family
        self.blocks = family.blocks
        self._input_shape = input_shape_of(family.example())
        self._axes = [_axes_of(supernet, block) for block in self.blocks]
        self._known: dict[tuple[int, bytes], str] = {}
        """Keys by block and combination; "" where the block is absent, or computes nothing."""
        self._parts: dict[frozenset[str], int] = {frozenset(): 0}
        self._sources: dict[str, tuple[Architecture, str]] = {}
        """An architecture that has a block of this key, and the block's name."""

    def of(self, architectures: Sequence[Architecture]) -> NDArray[np.str_]:
        """The keys of every block, (n, n_blocks), in the order of ``family.blocks``; "" where a network lacks it.

        Raises:
            LoweringError: a block holds an operation that has no rule, or gives more than one tensor.
        """
        if not architectures:
            return np.empty((0, len(self.blocks)), dtype=np.str_)
        by_block = self._combinations(architectures)
        for block, found in enumerate(by_block):
            for row, example in zip(found.rows, found.first, strict=True):
                if (block, row.tobytes()) not in self._known:
                    self._learn(architectures[example], [f.rows[f.inverse[example]] for f in by_block])
        columns = []
        for block, found in enumerate(by_block):
            keys = np.array([self._known[block, row.tobytes()] for row in found.rows], dtype=np.str_)
            columns.append(keys[found.inverse])
        return np.stack(columns, axis=1)

    def model(self, key: str) -> BlockModel:
        """A block of this key, with the weights of a subnet that has it.

        Raises:
            KeyError: no architecture given to `of` had such a block.
        """
        if key not in self._sources:
            raise KeyError(
                f"no block of key {key!r} has been seen; ask for the keys of architectures that have it first"
            )
        architecture, name = self._sources[key]
        with torch.no_grad():
            module = self._supernet.subnet(architecture).eval()
            (model,) = lower_blocks(module, self._input_shape, self.blocks, only=[name])
        return model

    def _combinations(self, architectures: Sequence[Architecture]) -> list[_Combinations]:
        """What decides each block's key in each network, by block."""
        family = self._supernet.family
        sizes = [family.sizes(architecture) for architecture in architectures]
        columns = {name: np.array([row[name] for row in sizes], dtype=np.int64) for name in family.axes}
        dropped = [family.dropped(architecture) for architecture in architectures]
        present = np.array([[not _within(block, drop) for block in self.blocks] for drop in dropped])
        following = _following(present)
        out = []
        for block, (name, axes) in enumerate(zip(self.blocks, self._axes, strict=True)):
            # Operations without parameters that stand before the next block belong to this one.
            parts = [following[:, block], self._lacking(name, dropped), *(columns[axis] for axis in axes)]
            here = present[:, block]
            # The sizes of a block that is not there are nobody's.
            table = np.stack([here, *(part * here for part in parts)], axis=1)
            rows, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
            out.append(_Combinations(rows, first, inverse.reshape(-1)))
        return out

    def _lacking(self, block: str, dropped: Sequence[frozenset[str]]) -> NDArray[np.int64]:
        """A number for the parts of a block that each network lacks: 0 for none, equal in every call for equal parts."""
        if not any(name.startswith(f"{block}.") for name in frozenset().union(*dropped)):
            return np.zeros(len(dropped), dtype=np.int64)
        parts = [frozenset(name for name in drop if name.startswith(f"{block}.")) for drop in dropped]
        return np.array([self._parts.setdefault(lacking, len(self._parts)) for lacking in parts], dtype=np.int64)

    def _learn(self, architecture: Architecture, rows: Sequence[NDArray[np.int64]]) -> None:
        """Lowers one network and keeps the keys of all its blocks, each by its combination."""
        with torch.no_grad():
            module = self._supernet.subnet(architecture).eval()
        keys = block_keys(module, self._input_shape, self.blocks)
        for block, (name, row) in enumerate(zip(self.blocks, rows, strict=True)):
            key = keys.get(name, "")
            known = self._known.setdefault((block, row.tobytes()), key)
            if known != key:
                raise LoweringError(
                    f"block {name} computes different things in networks of equal sizes of its axes; "
                    f"{architecture.key} is one of them: the family's dims lack an axis"
                )
            if key:
                self._sources.setdefault(key, (architecture, name))


def _axes_of(supernet: Supernet, block: str) -> list[str]:
    """The axes that what a block computes depends on, in the family's order."""
    family = supernet.family
    found = {axis for name, dims in family.dims().items() if name.startswith(f"{block}.") for axis in axes_in(dims)}
    found.update(family.geometry)
    return [axis for axis in family.axes if axis in found]


def _within(block: str, dropped: frozenset[str]) -> bool:
    """Whether a block, or a module that it lies in, is among the dropped ones."""
    return any(block == name or block.startswith(f"{name}.") for name in dropped)


def _following(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The index of the next present block after each, (n, n_blocks); their number after the last."""
    n, n_blocks = present.shape
    out = np.empty((n, n_blocks), dtype=np.int64)
    following = np.full(n, n_blocks, dtype=np.int64)
    for block in reversed(range(n_blocks)):
        out[:, block] = following
        following = np.where(present[:, block], block, following)
    return out
