"""Costs of networks as sums of terms, each of which depends on few choices and is tabulated over their joint options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.search.problem.pareto import Array
from supernets.space import INACTIVE, Architecture, SearchSpace

Parts = Callable[[Sequence[Architecture]], Array]
"""Networks to the parts that a cost is the weighted sum of, (n, n_parts): one or more for each block."""
MAX_STATES = 4096
"""Joint options of the choices of a part, at most; the table of a part of more would be slow to solve with."""
_MAX_PROBES = 6000
_BASES = 12
"""Networks around which choices are varied, besides the smallest and the largest."""


@dataclass(frozen=True, eq=False)
class Term:
    """Parts of a cost that depend on the same choices.

    Attributes:
        choices: Indices of the choices, (k,), ascending.
        states: Levels of these choices, `INACTIVE` where one does not apply, (n_states, k).
        values: The parts in each state, (n_states, n_parts), zero in the columns of other terms.
    """

    choices: tuple[int, ...]
    states: NDArray[np.int64]
    values: Array


class CostTerms:
    """The terms of a cost over a space.

    The choices that a part depends on are found by varying one choice at a time, around the smallest, the largest and random
    networks; then the part is computed for all joint options of them. A part of too many joint options is replaced by its
    additive relaxation: its changes from the largest network by each choice alone.

    Args:
        parts: Function of networks; called with some thousand of them.
        rng: Draws the networks around which choices are varied.

    Attributes:
        constant: Parts that no choice changes, and those of the largest network where a part is relaxed, (n_parts,).
        is_exact: True if the sums of the terms equal the parts' for random networks, and no part is relaxed.
    """

    def __init__(self, space: SearchSpace, parts: Parts, rng: np.random.Generator) -> None:
        self.space, self._parts, self._rng = space, parts, rng
        self._largest = parts([space.largest])[0]
        reads = self._reads()
        self.constant = np.where(reads.any(axis=0), 0.0, self._largest)
        self.terms, relaxed = list[Term](), False
        for choices, columns in self._groups(reads).items():
            if SearchSpace([space.choices[i] for i in choices]).size <= MAX_STATES:
                self.terms.append(self._tabulated(choices, columns))
            else:
                relaxed = True
                self.constant[columns] = self._largest[columns]
                self.terms += [self._relaxed(choice, columns) for choice in choices]
        self.is_exact = not relaxed and self._holds()

    @cached_property
    def _required(self) -> list[int | None]:
        index = {choice.name: i for i, choice in enumerate(self.space.choices)}
        return [None if choice.requires is None else index[choice.requires[0]] for choice in self.space.choices]

    def _reads(self) -> NDArray[np.bool_]:
        """Whether a part changes with a choice, (n_choices, n_parts)."""
        space, n_levels = self.space, self.space.levels.tolist()
        reads = np.zeros((len(space), len(self._largest)), dtype=bool)
        n_bases = max(1, min(_BASES, _MAX_PROBES // max(1, sum(n_levels)) - 2))
        bases = [space.smallest, space.largest, *(space.sample(self._rng) for _ in range(n_bases))]
        for base in dict.fromkeys(bases):
            pairs = [
                (i, self._with_level(base, i, level))
                for i, gene in enumerate(base.genes)
                for level in range(n_levels[i])
                if gene not in (INACTIVE, level)
            ]
            if pairs:
                values = self._parts([base, *(network for _, network in pairs)])
                np.logical_or.at(reads, [i for i, _ in pairs], values[1:] != values[0])
        return reads

    def _with_level(self, base: Architecture, choice: int, level: int) -> Architecture:
        """A network with another level of a choice; choices that become active have their last level."""
        last = (self.space.levels - 1).tolist()
        genes = [last[i] if gene == INACTIVE else gene for i, gene in enumerate(base.genes)]
        genes[choice] = level
        return self.space.canonical(genes)

    def _groups(self, reads: NDArray[np.bool_]) -> dict[tuple[int, ...], list[int]]:
        """The parts by the choices that they depend on, with those that these require; none for parts that are constant."""
        columns_by_choices: dict[tuple[int, ...], list[int]] = {}
        for column in np.flatnonzero(reads.any(axis=0)).tolist():
            read: set[int] = set(np.flatnonzero(reads[:, column]).tolist())
            for choice in tuple(read):
                while (required := self._required[choice]) is not None:
                    read.add(required)
                    choice = required
            columns_by_choices.setdefault(tuple(sorted(read)), []).append(column)
        joined: dict[tuple[int, ...], list[int]] = {}
        for choices, columns in sorted(columns_by_choices.items(), key=lambda group: -len(group[0])):
            containing = next((wider for wider in joined if set(choices) <= set(wider)), choices)
            if SearchSpace([self.space.choices[i] for i in containing]).size > MAX_STATES:
                containing = choices
            joined.setdefault(containing, []).extend(columns)
        return joined

    def _tabulated(self, choices: tuple[int, ...], columns: list[int]) -> Term:
        states = np.array(
            [a.genes for a in SearchSpace([self.space.choices[i] for i in choices]).enumerate()], dtype=np.int64
        )
        genes = np.tile(self.space.levels - 1, (len(states), 1))
        genes[:, choices] = np.where(states == INACTIVE, genes[:, choices], states)
        return Term(choices, states, self._values([self.space.canonical(row) for row in genes], columns))

    def _relaxed(self, choice: int, columns: list[int]) -> Term:
        n_levels = int(self.space.levels[choice])
        networks = [self._with_level(self.space.largest, choice, level) for level in range(n_levels)]
        values = self._values(networks, columns)
        values[:, columns] -= self._largest[columns]
        return Term((choice,), np.arange(n_levels)[:, None], values)

    def _values(self, networks: Sequence[Architecture], columns: list[int]) -> Array:
        values = np.zeros((len(networks), len(self._largest)))
        values[:, columns] = self._parts(networks)[:, columns]
        return values

    def _holds(self, n: int = 64) -> bool:
        networks = [self.space.sample(self._rng) for _ in range(n)]
        sums = np.tile(self.constant, (n, 1))
        genes = np.array([network.genes for network in networks])
        for term in self.terms:
            rows = {tuple(state): row for row, state in enumerate(term.states.tolist())}
            sums += term.values[[rows[tuple(row)] for row in genes[:, term.choices].tolist()]]
        return bool(np.allclose(sums, self._parts(networks), rtol=1e-9, atol=1e-9))
