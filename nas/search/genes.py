"""Many architectures at once, as arrays of genes: canonical form, random rows and neighbours."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from supernets.space import INACTIVE, Architecture, SearchSpace

Rows = NDArray[np.int64]
"""Canonical genes of architectures, (n, n_choices), in the order of `GeneRows.space`."""


class GeneRows:
    """The array form of a space's operations; agrees with `SearchSpace.canonical` row by row.

    Columns are in an order that depends on the names of the choices alone, so that a search is the same however a space
    lists its choices.

    Attributes:
        space: the choices in the order of the columns.
        levels: their numbers of options, (n_choices,).
    """

    def __init__(self, space: SearchSpace) -> None:
        self._order = _by_name(space)
        self._listed = np.argsort(self._order)
        self.space = SearchSpace([space.choices[i] for i in self._order])
        self.levels = self.space.levels
        self._is_named = np.array([any(isinstance(o, str) for o in choice.options) for choice in self.space.choices])
        index = {choice.name: i for i, choice in enumerate(self.space.choices)}
        required = ((i, choice.requires) for i, choice in enumerate(self.space.choices) if choice.requires)
        self._requires = [(i, index[parent], level) for i, (parent, level) in required]
        limits = {i: choice.most for i, choice in enumerate(self.space.choices)}
        self._max_levels = {i: np.array(levels) for i, levels in limits.items() if levels is not None}

    def rows(self, architectures: Sequence[Architecture]) -> Rows:
        """Genes of architectures, (n, n_choices); (0, n_choices) for none."""
        genes = np.array([a.genes for a in architectures], dtype=np.int64)
        return genes.reshape(len(architectures), len(self.levels))[:, self._order]

    def architectures(self, rows: Rows) -> list[Architecture]:
        """The architectures of canonical rows, with their genes in the order that the space was given in."""
        return [Architecture(tuple(genes)) for genes in rows[:, self._listed].tolist()]

    def enumerate(self) -> list[Architecture]:
        """Every architecture, in the lexicographic order of rows; for small spaces only."""
        return self.architectures(np.array([a.genes for a in self.space.enumerate()], dtype=np.int64))

    def canonical(self, levels: Rows) -> Rows:
        """Rows of levels, each within its choice's, with the genes of inactive choices blanked, and levels above the most that
        another choice admits set to that."""
        rows = levels.copy()
        for child, parent, level in self._requires:  # parents come first
            if child in self._max_levels:  # where the parent is inactive, the child is blanked below
                rows[:, child] = np.minimum(rows[:, child], self._max_levels[child][rows[:, parent]])
            rows[rows[:, parent] < level, child] = INACTIVE
        return rows

    def random(self, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows, every gene uniform over its levels."""
        return self.canonical(rng.integers(0, self.levels, size=(n, len(self.levels))))

    def filled(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Rows whose inactive genes have random levels, so that they can be bred from."""
        return np.where(rows == INACTIVE, rng.integers(0, self.levels, size=rows.shape), rows)

    def scaled(self, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows spread evenly from small to large: every gene lies about the same share of the way up.

        Options with names have no order: their genes are uniform.
        """
        shares = (rng.permutation(n) + rng.random(n))[:, None] / n
        return self._rows_at(shares + rng.normal(0.0, 0.25, size=(n, len(self.levels))), rng)

    def scaled_by_kind(self, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows in which each kind of choice (the depths, the widths of all layers) has the same share of its way up.

        The shares are a Latin hypercube over kinds: what each costs and gives, apart from the others, shows in few rows.
        Where a layer loses more by each further cut, networks of equal layers are good, and seldom drawn. Named options as
        in `scaled`.
        """
        shares = np.empty((n, len(self.levels)))
        for members in self.space.kinds.values():
            shares[:, members] = ((rng.permutation(n) + rng.random(n)) / n)[:, None]
        return self._rows_at(shares, rng)

    def _rows_at(self, shares: NDArray[np.float64], rng: np.random.Generator) -> Rows:
        """Rows whose genes lie at shares of their ways up, (n, n_choices); named options are uniform."""
        levels = np.clip(np.round(shares * (self.levels - 1)), 0, self.levels - 1).astype(np.int64)
        return self.canonical(np.where(self._is_named, rng.integers(0, self.levels, size=levels.shape), levels))

    def neighbours(self, rows: Rows, n: int, rng: np.random.Generator) -> Rows:
        """`n` `mutants` of rows drawn from `rows`."""
        return self.mutants(rows[rng.integers(len(rows), size=n)], rng) if len(rows) else rows

    def mutants(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """One row each, which differs in one gene (and in those that it activates or blanks); none where no gene can.

        If an inactive gene is drawn, the row comes back unchanged.
        """
        movable = np.flatnonzero(self.levels > 1)
        if not len(movable):
            return rows[:0]
        out = self.filled(rows, rng)
        gene = movable[rng.integers(len(movable), size=len(rows))]
        step = rng.integers(1, self.levels[gene])
        line = np.arange(len(rows))
        out[line, gene] = (out[line, gene] + step) % self.levels[gene]
        return self.canonical(out)

    def all_neighbours(self, row: NDArray[np.int64], rng: np.random.Generator) -> Rows:
        """Every row that differs from this one, (n_choices,), in one active gene; genes that it activates are random."""
        active = [i for i in np.flatnonzero(self.levels > 1) if row[i] != INACTIVE]
        moves = [(i, level) for i in active for level in range(self._n_levels(int(i), row)) if level != row[i]]
        out = self.filled(np.repeat(row[None, :], len(moves), axis=0), rng)
        for line, (gene, level) in enumerate(moves):
            out[line, gene] = level
        return self.canonical(out)

    def _n_levels(self, i: int, row: NDArray[np.int64]) -> int:
        """The number of levels that a choice has beside the others of a row."""
        parent = next((parent for child, parent, _ in self._requires if child == i and i in self._max_levels), None)
        return int(self.levels[i] if parent is None else self._max_levels[i][row[parent]] + 1)


def _by_name(space: SearchSpace) -> list[int]:
    """The choices in the order of their names, numbers in them as numbers; those that require others come after these."""
    depth: dict[str, int] = {}
    for choice in space.choices:  # parents come first
        depth[choice.name] = 0 if choice.requires is None else 1 + depth[choice.requires[0]]
    names = [choice.name for choice in space.choices]
    return sorted(range(len(names)), key=lambda i: (depth[names[i]], _natural(names[i]), names[i]))


def _natural(name: str) -> list[str | int]:
    """``layer_10`` after ``layer_9``: texts and numbers in turns, so that any two compare."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]
