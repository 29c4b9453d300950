"""Features of architectures for models of a search: genes, counts of options, and the edges of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.genes import GeneRows
from supernets.space import Architecture, Choice, SearchSpace

Genes = NDArray[np.int64]
"""One row per architecture, one column per choice of its space."""

_LIKE = 2
"""Choices with equal options whose options are counted, at least."""
_NODES = range(3, 8)
"""Nodes of a cell: with two there is only one path, and published cells have up to seven."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """A hypothesis: each choice is the operation on one edge of a cell, and one of its options removes the edge.

    Attributes:
        members: numbers of the choices, in the order of `edges`.
        edges: from a lower to a higher node each; the first node is the cell's input, the last its output.
        removed: the level that removes an edge.
    """

    members: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    removed: int

    def live(self, genes: Genes) -> Genes:
        """Genes (n, n_choices), with edges on no path from input to output removed: equal rows are equal networks."""
        edges = genes[:, self.members] != self.removed
        n_nodes = max(target for _, target in self.edges) + 1
        fed, used = np.zeros((2, len(genes), n_nodes), dtype=bool)
        fed[:, 0], used[:, -1] = True, True
        # Sorted by target, the edges into a node come before those out of it; by source in reverse, after them.
        for i, (source, target) in sorted(enumerate(self.edges), key=lambda edge: edge[1][1]):
            fed[:, target] |= fed[:, source] & edges[:, i]
        for i, (source, target) in sorted(enumerate(self.edges), key=lambda edge: -edge[1][0]):
            used[:, source] |= used[:, target] & edges[:, i]
        out = genes.copy()
        for member, (source, target) in zip(self.members, self.edges, strict=True):
            out[~(fed[:, source] & used[:, target]), member] = self.removed
        return out


def wirings(space: SearchSpace) -> list[Wiring]:
    """Every hypothesis that a space admits: none for spaces whose choices cannot be edges.

    In cells like those of NAS-Bench-201, every node may feed every later one, so that choices with the same options are 3,
    6, 10, ... They are sorted by target (as in NAS-Bench-201) or by source (the rows of a matrix, as in NAS-Bench-101). Any
    name may mean a removed edge, a number only if it is 0. Not recognised: two cells with the same options, edges with
    different options, and choices that require others or are required.
    """
    required = {choice.requires[0] for choice in space.choices if choice.requires is not None}
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, choice in enumerate(space.choices):
        if choice.requires is None and choice.name not in required:
            alike.setdefault(choice.options, []).append(i)
    found: dict[Wiring, None] = {}
    for members in alike.values():
        for edges in _orders(len(members)):
            for level in _removing(space.choices[members[0]]):
                found[Wiring(tuple(members), edges, level)] = None
    return list(found)


def _orders(n_edges: int) -> list[tuple[tuple[int, int], ...]]:
    """The orders in which `n_edges` edges may be listed."""
    nodes = next((n for n in _NODES if n * (n - 1) // 2 == n_edges), 0)
    by_target = tuple((source, target) for target in range(nodes) for source in range(target))
    return [by_target, tuple(sorted(by_target))] if nodes else []


def _removing(choice: Choice) -> Sequence[int]:
    """Levels that may mean that there is no edge."""
    if len(choice.options) == 1:
        return []
    return [level for level, option in enumerate(choice.options) if isinstance(option, str) or option == 0]


class GeneFeatures:
    """Feature rows of a space's architectures, without knowledge of what the space describes.

    Columns, of genes in the order of `GeneRows`: one-hot genes; then each choice of numbers on its scale; then, for every set
    of choices with equal options (the kernels of all layers, say), the share of them that has each option. The counts
    transfer between genes what a model of genes alone must learn for each of them.

    Args:
        wiring: genes are the edges of this cell; those that its output does not depend on count as removed.

    Attributes:
        groups: the weight of each column: one for a choice's one-hot columns, one of its own for every other column.
        counts: the numbers of the columns of counts.
    """

    def __init__(self, space: SearchSpace, wiring: Wiring | None = None) -> None:
        self._genes, self.wiring = GeneRows(space), wiring
        space = self._genes.space
        numeric = [i for i, c in enumerate(space.choices) if not any(isinstance(o, str) for o in c.options)]
        n_one_hot = int(space.levels.sum())
        self._kept = np.concatenate([np.arange(n_one_hot), n_one_hot + np.array(numeric, dtype=np.int64)])
        by_options: dict[tuple[object, ...], list[int]] = {}
        for i, choice in enumerate(space.choices):
            by_options.setdefault(choice.options, []).append(i)
        self._kinds = [members for members in by_options.values() if len(members) >= _LIKE]
        n_counts = sum(int(space.levels[members[0]]) for members in self._kinds)
        own = len(space) + np.arange(len(numeric) + n_counts)
        self.groups: NDArray[np.int64] = np.concatenate([np.repeat(np.arange(len(space)), space.levels), own])
        self.counts: NDArray[np.int64] = len(self._kept) + np.arange(n_counts)

    def rows(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Features, (n, d). Counts are divided by the square root of their maximum, so that they spread like genes."""
        genes, space = self._genes.of(architectures), self._genes.space
        if self.wiring is not None:
            genes = self.wiring.live(genes)
        counts = [
            (genes[:, members] == level).sum(axis=1) / np.sqrt(len(members))
            for members in self._kinds
            for level in range(int(space.levels[members[0]]))
        ]
        encoded = space.encode([Architecture(tuple(row)) for row in genes.tolist()])
        return np.column_stack([encoded[:, self._kept], *counts])
