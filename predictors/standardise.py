"""Columns with mean 0 and deviation 1, as learnt from training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.base import Array


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Centre and scale of the columns that vary; constant ones are dropped.

    Attributes:
        kept: indices of the columns kept; the first column alone (as zeros) where none varies.
    """

    kept: NDArray[np.int64]
    centre: Array
    scale: Array

    @classmethod
    def of(cls, features: Array, weights: Array | None = None) -> Standardiser:
        """The standardiser of training rows (n, d); `weights` (n,) move the centre, not the scale."""
        scale = features.std(axis=0)
        # Rounding leaves constant columns of large numbers with a tiny deviation.
        kept = np.flatnonzero(scale > 1e-10 * np.abs(features).max(axis=0))
        if not len(kept):
            return cls(np.zeros(1, dtype=np.int64), features[:1, 0].copy(), np.ones(1))
        return cls(kept, np.average(features[:, kept], axis=0, weights=weights), scale[kept])

    def __call__(self, features: Array) -> Array:
        """Standardised columns, (m, n_kept)."""
        out: Array = (features[:, self.kept] - self.centre) / self.scale
        return out
