"""Analytic features of a table's architectures, from the names and options of its genes alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from nas.runs.bench.table import Table
from predictors.feature_columns import FeatureLayout
from supernets.space import INACTIVE, Architecture, SearchSpace

_COUNTED_OPTIONS = 12
"""Options of a family that are counted, at most; a resolution of 25 options is a number, not a category."""
_CROSSED = 12
"""Genes without family whose pairs are multiplied, at most."""

_Array = NDArray[np.float64]
_Family = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class TableFeatures:
    """Feature rows of the architectures of a table's space.

    Columns: sums, products and counts (aggregates), then each numeric gene's value, then, unless the genes are
    `numeric`, `SearchSpace.encode`. Genes whose names differ in trailing numbers are a family (``expand_1_2`` belongs
    to ``expand`` and to ``expand_1``). Of a family: the sum of its numbers, the number of active genes, the count of each
    option. Of two families with equal numbering: the products of their members, summed (a kernel × an expansion
    ratio). Genes of no family: the products of all pairs (a depth × a width), with the sums of families too.

    Args:
        numeric: genes are numbers; options are not categories.
    """

    space: SearchSpace
    numeric: bool

    @classmethod
    def from_table(cls, table: Table) -> TableFeatures:
        """The features of a table."""
        return cls(table.space, table.numeric)

    def __call__(self, architectures: Sequence[Architecture]) -> _Array:
        """Features, (n, d)."""
        genes = self._genes(architectures)
        values, active = self._values(genes), genes != INACTIVE
        aggregates = np.hstack(self._aggregates(genes, values, active))
        parts = [aggregates, values[:, self._numbers()]]
        if not self.numeric:
            parts.append(self.space.encode(architectures))
        return np.hstack(parts)

    def plain(self, architectures: Sequence[Architecture]) -> _Array:
        """One-hot genes, (n, d), for simple models; the genes' values where they are numeric."""
        if self.numeric:
            return self._values(self._genes(architectures))[:, self._numbers()]
        return self.space.encode(architectures)[:, : int(self.space.levels.sum())]

    def raw(self, architectures: Sequence[Architecture]) -> _Array:
        """Gene levels, (n, n_genes), -1 for inactive ones, for trees; the genes' values where numeric."""
        return self.plain(architectures) if self.numeric else self._genes(architectures).astype(np.float64)

    def layout(self) -> FeatureLayout:
        """The meaning of the columns; none is a total like MACs."""
        no_rows = np.empty((0, len(self.space)))
        n_aggregates = sum(
            part.shape[1] for part in self._aggregates(no_rows.astype(np.int64), no_rows, no_rows.astype(bool))
        )
        n_numbers = len(self._numbers())
        groups: list[int] = [-1] * n_aggregates
        options: list[int] = []
        if self.numeric:
            groups += range(n_numbers)
        else:
            n_aggregates += n_numbers
            n = len(self.space)
            # A gene's one-hot columns share a weight; its ordinal column has one of its own.
            one_hot = np.repeat(np.arange(n), self.space.levels).tolist()
            groups += [-1] * n_numbers + one_hot + list(range(n, 2 * n))
            options = [*[-1] * n_aggregates, *self.space.option_numbers(), *[-1] * n]
        return FeatureLayout(
            macs=None, aggregates=tuple(range(n_aggregates)), groups=tuple(groups), options=tuple(options)
        )

    def _genes(self, architectures: Sequence[Architecture]) -> NDArray[np.int64]:
        return np.array([a.genes for a in architectures], dtype=np.int64).reshape(len(architectures), len(self.space))

    def _numbers(self) -> list[int]:
        """Genes whose options are numbers, not names."""
        return [i for i, c in enumerate(self.space.choices) if not any(isinstance(o, str) for o in c.options)]

    def _values(self, genes: NDArray[np.int64]) -> _Array:
        """Option values (n, n_genes); 0 for inactive genes and for names."""
        values = np.zeros(genes.shape)
        for i in self._numbers():
            options = np.array([*(float(o) for o in self.space.choices[i].options), 0.0])  # level -1 is the last
            values[:, i] = options[genes[:, i]]
        return values

    def _aggregates(self, genes: NDArray[np.int64], values: _Array, active: NDArray[np.bool_]) -> list[_Array]:
        """Blocks of aggregate columns, each (n, any)."""
        families = _families([c.name for c in self.space.choices])
        numbers = set(self._numbers())
        numeric = [list(m.values()) for m in families.values() if numbers.issuperset(m.values())]
        sums = [values[:, members].sum(axis=1) for members in numeric]
        parts = [self._counts(genes, active, list(members.values())) for members in families.values()]
        parts += [_columns(sums, len(genes)), *_products(families, values, numbers)]
        grouped = {i for members in families.values() for i in members.values()}
        single = sorted(numbers - grouped)
        parts.append(_columns(self._crossed(single, values, sums), len(genes)))
        return parts

    def _crossed(self, single: list[int], values: _Array, sums: list[_Array]) -> list[_Array]:
        """Products of genes without family: in pairs, in threes of one first word, and with sums of families."""
        if len(single) > _CROSSED:
            return []
        products = [values[:, a] * values[:, b] for a, b in combinations(single, 2)]
        stems = {i: _stem(self.space.choices[i].name) for i in single}
        threes = (three for three in combinations(single, 3) if len({stems[i] for i in three}) == 1)
        products += [values[:, three].prod(axis=1) for three in threes]
        # The square as well: the side of an image enters costs by its area.
        products += [values[:, i] ** power * total for i in single for total in sums for power in (1, 2)]
        return products

    def _counts(self, genes: NDArray[np.int64], active: NDArray[np.bool_], members: list[int]) -> _Array:
        """The number of a family's active genes, and of those with each option (if options are few and common to all)."""
        columns = [active[:, members].sum(axis=1).astype(np.float64)]
        options = {self.space.choices[i].options for i in members}
        if len(options) == 1 and len(common := next(iter(options))) <= _COUNTED_OPTIONS:
            columns += [(genes[:, members] == level).sum(axis=1).astype(np.float64) for level in range(len(common))]
        return _columns(columns, len(genes))


def _families(names: Sequence[str]) -> dict[_Family, dict[str, int]]:
    """Genes by number within their family, by the family's name and its own numbers; only families of two or more."""
    members_by_family: dict[_Family, dict[str, int]] = {}
    for i, name in enumerate(names):
        match = re.fullmatch(r"(.*?)((?:[_.]?\d+)+)", name)
        if match is None:
            continue
        numbers = tuple(re.findall(r"\d+", match[2]))
        for depth in range(len(numbers)):
            members_by_family.setdefault((match[1], numbers[:depth]), {})["_".join(numbers[depth:])] = i
    return {family: members for family, members in members_by_family.items() if len(members) > 1}


def _products(families: dict[_Family, dict[str, int]], values: _Array, numbers: set[int]) -> list[_Array]:
    """Sums over equally numbered members of the products of two families' numbers, (n, 1) each."""
    parts = []
    for (first, first_members), (second, second_members) in combinations(families.items(), 2):
        if first[1] != second[1] or first_members.keys() != second_members.keys():
            continue
        if not {*first_members.values(), *second_members.values()} <= numbers:
            continue
        paired = (
            values[:, list(first_members.values())] * values[:, [second_members[number] for number in first_members]]
        )
        parts.append(paired.sum(axis=1, keepdims=True))
    return parts


def _stem(name: str) -> str:
    """The first word of a gene's name: ``encoder`` of ``encoder_ffn_embed_dim_avg``."""
    return re.split(r"[_.]", name, maxsplit=1)[0]


def _columns(columns: Sequence[_Array], n: int) -> _Array:
    return np.column_stack(columns) if columns else np.empty((n, 0))
