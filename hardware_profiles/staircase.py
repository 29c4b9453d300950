"""Where latency rises in steps along a width, and which widths stand at the end of one (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MIN_WIDTHS = 5
_LEAST_ERROR = 1e-6
"""A relative error below which nothing is measured; keeps the fit from dividing by 0."""
_JUMP = 1.5
"""A step's end costs at least so many times what a smooth curve through all widths rises there."""
_SHARE = 0.5
"""A staircase rises at least by this share of the whole at the ends of its steps."""


def step_ends(widths: Sequence[int], latency_ms: Sequence[float], errors_ms: Sequence[float]) -> tuple[int, ...]:
    """The widths at which going one further costs a jump, and that no wider one matches in speed; all where none do.

    Kernels work on whole vectors, so that latency often rises in steps: any width within a step pays for all of it. A
    wider network that is as fast replaces a narrower one, so jumps are looked for in the least latency among a width and
    all wider ones; what is slower than something wider (30 channels than 32) thus never ends a step. A jump exceeds the
    errors of its two sides, and 1.5 times the rise there of the parabola through these least latencies.

    Where a parabola fits all latencies within the errors, or the jumps make less than half of the rise, there is no staircase, and
    every width is as good as its neighbours: all come back. Of a staircase the last width never does, since what follows
    it is not known. Fewer than five widths tell nothing: all come back.

    Args:
        widths: (n,), ascending.
        latency_ms: (n,), of each width.
        errors_ms: (n,), differences below which two latencies tie.

    Raises:
        ValueError: the lengths differ, or the widths do not ascend.
    """
    w, latency, errors = (np.asarray(values, dtype=np.float64) for values in (widths, latency_ms, errors_ms))
    if not len(w) == len(latency) == len(errors):
        raise ValueError(
            f"expected as many latencies and errors as widths, got {len(latency)}, {len(errors)}, {len(w)}"
        )
    if (np.diff(w) <= 0).any():
        raise ValueError(f"expected ascending widths, got {list(widths)}")
    everything = tuple(int(width) for width in widths)
    if len(w) < _MIN_WIDTHS:
        return everything
    errors = np.maximum(errors, _LEAST_ERROR * latency)
    if np.mean(((latency - _parabola(w, latency, errors)) / errors) ** 2) <= 1:
        return everything
    least = least_latency(latency)
    rises, smooth = np.diff(least), np.diff(_parabola(w, least, errors))
    ends = rises > np.maximum(np.maximum(errors[:-1], errors[1:]), _JUMP * smooth)
    if not ends.any() or rises[ends].sum() < _SHARE * rises.sum():
        return everything
    return tuple(width for width, end in zip(everything, ends.tolist(), strict=False) if end)


def least_latency(latency_ms: Sequence[float] | Floats) -> Floats:
    """The least latency among each width and all wider ones, (n,): what one pays for that many channels or more."""
    return np.minimum.accumulate(np.asarray(latency_ms, dtype=np.float64)[::-1])[::-1]


def _parabola(w: Floats, latency: Floats, errors: Floats) -> Floats:
    return np.asarray(np.polynomial.Polynomial.fit(w, latency, 2, w=1 / errors)(w))
