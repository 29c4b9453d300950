"""Some rows of many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_spaced(n: int, most: int) -> NDArray[np.int64]:
    """Indices of at most so many of `n` rows, ascending; where there are two, the first and the last are among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))
