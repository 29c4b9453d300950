"""The evaluations that an algorithm learned from, and algorithms whose asks depend on them and the seed alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.search.base import AsynchronousAlgorithm, SearchAlgorithm
from nas.search.genes import GeneRows
from nas.search.problem.constraints import violations
from nas.search.problem.objectives import Constraint, Evaluation, Objective, minimised
from supernets.space import Architecture, SearchSpace

ENUMERABLE = 50_000
"""Spaces up to this size are listed when random draws no longer find an unknown architecture."""
_TRIES_SMALL = 30
_TRIES_LARGE = 2_000
"""Draws for each architecture requested, at most: if all of them are known, nearly the whole space is."""


def draw_unknown(
    genes: GeneRows, known_architectures: Collection[Architecture], n: int, rng: np.random.Generator
) -> list[Architecture]:
    """Up to `n` different architectures outside `known_architectures`, with every gene uniform over its levels.

    Fewer than `n` come back only when the space has no more. Draws are bounded: after them, the rest of a small space is
    listed and sampled evenly. (In a space above `ENUMERABLE`, nearly all of which is known, fewer can come back too.)

    Args:
        known_architectures: A set or a mapping; every draw is looked up in it.
    """
    unknown: dict[Architecture, None] = {}
    space = genes.space
    tries = n * (_TRIES_SMALL if space.size <= ENUMERABLE else _TRIES_LARGE)
    while len(unknown) < n and tries > 0:
        drawn = genes.random(min(n - len(unknown), tries), rng)
        tries -= len(drawn)
        unknown.update((a, None) for a in genes.architectures(drawn) if a not in known_architectures)
    if len(unknown) < n and space.size <= ENUMERABLE:
        undrawn = [a for a in genes.enumerate() if a not in known_architectures and a not in unknown]
        picks = rng.choice(len(undrawn), size=min(n - len(unknown), len(undrawn)), replace=False)
        unknown.update((undrawn[i], None) for i in picks)
    return list(unknown)


class History:
    """All evaluations in order, and the set of known architectures: evaluated or asked for.

    Args:
        constraints: Constraints on metrics that every evaluation has.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self._objectives, self._constraints = list(objectives), list(constraints)
        self._rows: dict[Architecture, tuple[NDArray[np.float64], float]] = {}
        self.known: set[Architecture] = set()

    def __len__(self) -> int:
        """The number of architectures with values."""
        return len(self._rows)

    def add(self, evaluations: Sequence[Evaluation]) -> list[Architecture]:
        """Adds evaluations and returns the architectures that have values now; the others are only known.

        An architecture has values if all of them are finite.
        """
        self.known.update(e.architecture for e in evaluations)
        usable = []
        for evaluation, row in zip(evaluations, minimised(evaluations, self._objectives), strict=True):
            broken = np.array([violations([evaluation], [c])[0] for c in self._constraints])
            if np.isfinite(row).all() and np.isfinite(broken).all():
                self._rows[evaluation.architecture] = (row, float(broken.sum()))
                usable.append(evaluation.architecture)
        return usable

    def replace(self, proposed: Iterable[Architecture], recorded: Iterable[Architecture]) -> None:
        """Makes recorded architectures known in place of those proposed in a replay."""
        self.known.difference_update(proposed)
        self.known.update(recorded)

    @property
    def architectures(self) -> list[Architecture]:
        """The architectures with values, in the order evaluated."""
        return list(self._rows)

    def __contains__(self, architecture: Architecture) -> bool:
        return architecture in self._rows

    def values(self, architectures: Iterable[Architecture]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Minimised values (n, m) of architectures that have some, and their violations (n,): 0 where feasible."""
        rows = [self._rows[a] for a in architectures]
        values = np.array([row for row, _ in rows]).reshape(len(rows), len(self._objectives))
        return values, np.array([violation for _, violation in rows], dtype=np.float64)


class HistorySearch(SearchAlgorithm):
    """An algorithm whose asks are a function of the seed and the history, so that `replay` computes nothing.

    Args:
        seed: A number of at least 0.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective] = (),
        *,
        seed: int,
        constraints: Sequence[Constraint] = (),
    ) -> None:
        self._space, self._seed = space, seed
        self._genes = GeneRows(space)
        self._history = History(objectives, constraints)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Adds to the history."""
        self._history.add(evaluations)

    def correct(self, evaluations: Sequence[Evaluation]) -> None:
        """Replaces values in the history."""
        self._history.add(evaluations)

    def replay(self, recorded: Sequence[Architecture]) -> list[Architecture]:
        """Returns `recorded`, which is known from now on."""
        self._history.known.update(recorded)
        return list(recorded)


class ProposingSearch(HistorySearch, AsynchronousAlgorithm):
    """An algorithm that proposes architectures from the history; where it proposes too few, random ones complete the batch."""

    def ask(self, n: int, *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        self._history.known.update(pending)
        rng = np.random.default_rng([self._seed, len(self._history.known)])
        proposed = self._propose(n, rng)
        proposed += draw_unknown(self._genes, {*self._history.known, *proposed}, n - len(proposed), rng)
        self._history.known.update(proposed)
        return proposed

    def replay(self, recorded: Sequence[Architecture], *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Returns `recorded`, which is known from now on."""
        return super().replay([*pending, *recorded])[len(pending) :]

    def _propose(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Up to `n` different unknown architectures; none by default."""
        return []
