"""Widths of intervals row by row, from a Gaussian process, in the terms of errors."""

from __future__ import annotations

import numpy as np

from predictors.base import Array, Prediction
from predictors.kernel_process import KernelProcess
from predictors.scale import Bounds, LabelScale

LEAST = 1e-12
"""Lower bound, because errors are divided by widths; those of a noiseless process may be 0."""


def widths_of(found: Prediction, bounds: Bounds, *, ratio: bool) -> Array:
    """Deviations of predictions (m,) in the terms of errors (see `errors_of`)."""
    return np.maximum(found.std / bounds.clip(found.mean) if ratio else found.std, LEAST)


class ProcessWidths:
    """The widths of a fitted process, on average at least those that the spread was calibrated with.

    Held-out rows were predicted from four fifths of the rows. If the process is near the rank of its features, the last
    fifth reduces its deviations more than its errors, and its intervals would be too narrow: they are multiplied by the
    ratio of its held-out to its leave-one-out deviations.

    Args:
        process: fitted on all rows.
        held_out: widths (n,) of the training rows, held out.
        mean: held-out predictions (n,) of the process.
    """

    def __init__(self, process: KernelProcess, held_out: Array, mean: Array, bounds: Bounds, *, ratio: bool) -> None:
        self._process, self._bounds, self._ratio = process, bounds, ratio
        left_out = process.left_out_std()
        if ratio and process.scale is LabelScale.PLAIN:
            left_out = left_out / bounds.clip(mean)
        self._stretch = max(1.0, float(held_out.mean() / max(left_out.mean(), LEAST)))

    def __call__(self, features: Array) -> Array:
        """Widths (m,)."""
        return self._stretch * widths_of(self._process.predict(features), self._bounds, ratio=self._ratio)
