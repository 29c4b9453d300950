"""Features of architectures for models of a search: genes, and counts of options."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.search.genes import GeneRows
from supernets.space import Architecture, SearchSpace


class GeneFeatures:
    """Feature rows of a space's architectures, without knowledge of what the space describes.

    Columns, of genes in the order of `GeneRows`: one-hot genes; then each choice of numbers on its scale; then, for every set
    of choices with equal options (the kernels of all layers, say), the share of them that has each option. The counts
    transfer between genes what a model of genes alone must learn for each of them.

    Attributes:
        groups: the weight of each column: one for a choice's one-hot columns, one of its own for every other column.
        options: the weight of each one-hot column's option, one for all choices with equal options; -1 for all other columns.
        counts: the numbers of the columns of counts.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._genes = GeneRows(space)
        space = self._genes.space
        numeric = [i for i, c in enumerate(space.choices) if not any(isinstance(o, str) for o in c.options)]
        n_one_hot = int(space.levels.sum())
        self._columns = np.concatenate([np.arange(n_one_hot), n_one_hot + np.array(numeric, dtype=np.int64)])
        self._kinds = space.like_choices
        n_counts = sum(int(space.levels[members[0]]) for members in self._kinds)
        single_groups = len(space) + np.arange(len(numeric) + n_counts)
        self.groups: NDArray[np.int64] = np.concatenate([np.repeat(np.arange(len(space)), space.levels), single_groups])
        self.options: NDArray[np.int64] = np.concatenate([space.option_numbers(), np.full(len(single_groups), -1)])
        self.counts: NDArray[np.int64] = len(self._columns) + np.arange(n_counts)

    def rows(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Features, (n, d). Counts are divided by the square root of their maximum, so that they spread like genes."""
        genes, space = self._genes.rows(architectures), self._genes.space
        counts = [
            (genes[:, members] == level).sum(axis=1) / np.sqrt(len(members))
            for members in self._kinds
            for level in range(int(space.levels[members[0]]))
        ]
        encoded = space.encode([Architecture(tuple(row)) for row in genes.tolist()])
        return np.column_stack([encoded[:, self._columns], *counts])
