"""Pareto local search: the neighbours, one gene away, of the best architectures known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.history import ProposingSearch
from nas.search.problem.objectives import Constraint, Objective
from nas.search.ranking import first_front, survivors
from supernets.space import Architecture, SearchSpace

INITIAL = 10
"""277 evaluations to 99 % of the volume, as in `breeding.METHODS` (to 95 %: 93); 2 need 289 (55), 20 306 (92), 50 249 (98).
Not 50: searches of a hundred evaluations are usual, and half of one would be random."""


class LocalSearch(ProposingSearch):
    """Pareto local search (Paquete, Chiarandini, Stützle 2004; White, Nolen, Savani 2020, arXiv 2005.02960, for networks).

    A member of the front is drawn, and all its unknown neighbours (one active gene changed) are asked for in random
    order, then another member's. When the front's neighbourhoods are used up, those of the next best follow, by front
    and crowding.

    Departures: the front is that of the feasible architectures, or of those of least violation while none is feasible.
    After each batch the front is updated, so that a neighbourhood is abandoned as soon as its member is dominated.

    Args:
        seed: A number of at least 0.
        initial: Number of architectures evaluated before the first neighbour is asked for; they are random, except the two that
            the loop evaluates first.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int,
        constraints: Sequence[Constraint] = (),
        initial: int = INITIAL,
    ) -> None:
        super().__init__(space, objectives, seed=seed, constraints=constraints)
        self._initial = initial

    def _propose(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        if len(self._history) < max(1, self._initial):
            return []
        evaluated = self._history.architectures
        values, violations = self._history.values(evaluated)
        front = np.flatnonzero(first_front(values, violations))
        ranked = survivors(values, len(evaluated), violations)
        dominated = ranked[~np.isin(ranked, front)]
        rows = self._genes.rows(evaluated)
        unknown: dict[Architecture, None] = {}
        for i in np.concatenate([rng.permutation(front), dominated]):
            near = self._genes.architectures(rng.permutation(self._genes.all_neighbours(rows[i], rng)))
            unknown.update((a, None) for a in near if a not in self._history.known)
            if len(unknown) >= n:
                break
        return list(unknown)[:n]
