"""Random search: the baseline that every other algorithm must beat."""

from __future__ import annotations

import numpy as np

from nas.search.history import HistorySearch
from supernets.space import Architecture


class RandomSearch(HistorySearch):
    """Every gene uniform over its levels, without repetition."""

    def _propose(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        return []  # random architectures complete the batch
