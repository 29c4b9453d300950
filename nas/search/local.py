"""Pareto local search: what lies one gene away from the best networks known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.problem.objectives import Constraint, Evaluation, Objective
from nas.search.genes import GeneRows
from nas.search.history import History
from nas.search.ranking import first_front, survivors
from nas.search.sampling import draw_unknown
from supernets.space import Architecture, SearchSpace

INITIAL = 10
"""277 evaluations to 99 % of the volume, as in `breeding.METHODS` (to 95 %: 93); 2 need 289 (55), 20 306 (92), 50 249 (98).
Not 50: searches of a hundred evaluations are usual, and half of one would be random."""


class LocalSearch:
    """Pareto local search (Paquete, Chiarandini, Stützle 2004; White, Nolen, Savani 2020, arXiv 2005.02960, for networks).

    A member of the front of what was told is drawn, and all its unknown neighbours (one active gene changed) are asked for
    in random order, then another member's. Where the front's neighbourhoods are used up, those of the next best follow, by
    front and crowding. An ask is a function of the seed and of what is known.

    Departures: the front is that of the feasible networks, and while there are none, of those of least violation. After
    each batch the front is taken anew, so that a neighbourhood is left as soon as its member is beaten.

    Args:
        seed: at least 0.
        initial: networks told before the first neighbour is asked for; they are random, but for those told first.
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
        self._space, self._seed, self._initial = space, seed, initial
        self._genes = GeneRows(space)
        self._history = History(objectives, constraints)

    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        rng = np.random.default_rng([self._seed, len(self._history.known)])
        asked = self._neighbours(n, rng) if len(self._history) >= max(1, self._initial) else []
        asked += draw_unknown(self._space, {*self._history.known, *asked}, n - len(asked), rng)
        self._history.known.update(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Adds to what the front is taken from; those with a NaN or an infinity are only remembered as known."""
        self._history.add(evaluations)

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """Empty: there are no models."""
        return {}

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        """Returns `asked` and knows it."""
        self._history.known.update(asked)
        return list(asked)

    def _neighbours(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Up to `n` different unknown neighbours of the front's members, or else of the next best."""
        told = self._history.architectures
        values, violations = self._history.figures(told)
        front = np.flatnonzero(first_front(values, violations))
        ranked = survivors(values, len(told), violations)
        rest = ranked[~np.isin(ranked, front)]
        rows = self._genes.of(told)
        found: dict[Architecture, None] = {}
        for i in np.concatenate([rng.permutation(front), rest]):
            near = self._genes.architectures(rng.permutation(self._genes.all_neighbours(rows[i], rng)))
            found.update((a, None) for a in near if a not in self._history.known)
            if len(found) >= n:
                break
        return list(found)[:n]
