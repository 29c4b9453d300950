"""Random search: the baseline that every other algorithm must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.problem.objectives import Evaluation
from nas.search.sampling import draw_unknown
from supernets.space import Architecture, SearchSpace


class RandomSearch:
    """Every gene uniform over its levels, without repetition; an ask is a function of the seed and of what is known.

    Args:
        seed: at least 0.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space, self._seed = space, seed
        self._known: set[Architecture] = set()

    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        rng = np.random.default_rng([self._seed, len(self._known)])
        asked = draw_unknown(self._space, self._known, n, rng)
        self._known.update(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Remembers the architectures; their figures change nothing."""
        self._known.update(e.architecture for e in evaluations)

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """Empty: there are no models."""
        return {}

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        """Returns `asked` and knows it."""
        self._known.update(asked)
        return list(asked)
