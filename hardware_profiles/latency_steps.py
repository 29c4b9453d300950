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
"""A step's end costs at least so many times what a smooth curve through the widths rises there."""
_SHARE = 0.5
"""A staircase rises at least by this share of the whole at the ends of its steps."""


def step_ends(widths: Sequence[int], latency_ms: Sequence[float], errors_ms: Sequence[float]) -> tuple[int, ...]:
    """The widths at the end of a step of latency, where one more channel costs a jump; all where nothing steps.

    Kernels work on whole vectors and blocks of channels, so that any width within a step pays for all of it. Found thus:

    1. Where a parabola fits all latencies within their errors, nothing steps, and every width comes back.
    2. A width is left out where a wider one is faster by more than the error (30 channels slower than 32).
    3. Of those left, a width ends a step where the next one's latency (or that of the fastest wider one) is higher by
       more than the errors, and by more than 1.5 times what the parabola through those left rises there. Where such
       jumps make less than half of the whole rise, all those left come back.

    The last width never ends a step, since what follows it is not known. Fewer than five widths all come back.

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
    errors = np.maximum(errors, _LEAST_ERROR * latency)
    if len(w) < _MIN_WIDTHS or _is_smooth(w, latency, errors):
        return tuple(widths)
    left = np.flatnonzero(latency - least_latency(latency) <= errors)
    chosen = left
    if len(left) >= _MIN_WIDTHS:
        jumps = _jumps(w[left], latency[left], errors[left])
        chosen = left[:-1][jumps] if jumps.any() else left
    return tuple(widths[i] for i in chosen.tolist())


def least_latency(latency_ms: Sequence[float] | Floats) -> Floats:
    """The least latency among each width and all wider ones, (n,): what one pays for that many channels or more."""
    return np.minimum.accumulate(np.asarray(latency_ms, dtype=np.float64)[::-1])[::-1]


def _is_smooth(w: Floats, latency: Floats, errors: Floats) -> bool:
    return bool(np.mean(((latency - _parabola(w, latency, errors)) / errors) ** 2) <= 1)


def _jumps(w: Floats, latency: Floats, errors: Floats) -> NDArray[np.bool_]:
    """Whether latency jumps after each width but the last, (n - 1,); nowhere where jumps make too little of its rise."""
    least = least_latency(latency)
    rises, smooth = np.diff(least), np.diff(_parabola(w, least, errors))
    jumps = rises > np.maximum(np.maximum(errors[:-1], errors[1:]), _JUMP * smooth)
    enough = rises[jumps].sum() >= _SHARE * rises.sum()
    return np.asarray(jumps & enough, dtype=np.bool_)


def _parabola(w: Floats, latency: Floats, errors: Floats) -> Floats:
    return np.asarray(np.polynomial.Polynomial.fit(w, latency, 2, w=1 / errors)(w))
