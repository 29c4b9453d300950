"""Subsets of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_spaced(n: int, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` of `n` rows, ascending and evenly spaced; the first and, of several, the last are included."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))
