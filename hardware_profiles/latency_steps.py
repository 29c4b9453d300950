"""Steps of latency along a width, and the widths at which they end. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MIN_WIDTHS = 5
_LEAST_ERROR = 1e-6
"""Lower bound of the relative error; keeps the fit from dividing by 0."""
_JUMP = 1.5
"""A step's end rises by at least this multiple of what a smooth curve through the widths rises there."""
_SHARE = 0.5
"""Steps account for at least this share of the whole rise."""


def step_ends(widths: Sequence[int], latency_ms: Sequence[float], errors_ms: Sequence[float]) -> tuple[int, ...]:
    """The widths at the end of a step of latency, where one more channel costs a jump; all widths if there are no steps.

    Kernels work on whole vectors and blocks of channels, so that every width within a step costs as much as its end:

    1. If a parabola fits all latencies within their errors, there are no steps.
    2. A width is removed if a wider one is faster by more than the error (30 channels slower than 32).
    3. A remaining width ends a step if the next latency (or that of the fastest wider width) is higher by more than the
       errors, and by more than 1.5 times the rise of the parabola through the remaining widths. If these jumps account
       for less than half of the whole rise, all remaining widths are returned.

    The last width never ends a step, since the next one is unknown. Fewer than five widths are all returned.

    Args:
        widths: (n,), ascending.
        errors_ms: (n,), differences below which two latencies tie.

    Raises:
        ValueError: the lengths differ, or the widths do not ascend.
    """
    w, latency, errors = (np.asarray(values, dtype=np.float64) for values in (widths, latency_ms, errors_ms))
    if not len(w) == len(latency) == len(errors):
        raise ValueError(f"expected a latency and error per width, got {len(latency)} and {len(errors)} for {len(w)}")
    if (np.diff(w) <= 0).any():
        raise ValueError(f"expected ascending widths, got {list(widths)}")
    errors = np.maximum(errors, _LEAST_ERROR * latency)
    if len(w) < _MIN_WIDTHS or np.mean(((latency - _parabola(w, latency, errors)) / errors) ** 2) <= 1:
        return tuple(widths)
    remaining = np.flatnonzero(latency - least_latency(latency) <= errors)
    if len(remaining) >= _MIN_WIDTHS and (jumps := _jumps(w[remaining], latency[remaining], errors[remaining])).any():
        remaining = remaining[:-1][jumps]
    return tuple(widths[i] for i in remaining.tolist())


def least_latency(latency_ms: Sequence[float] | Floats) -> Floats:
    """The least latency of each width and all wider ones, (n,): the price of at least that many channels."""
    return np.minimum.accumulate(np.asarray(latency_ms, dtype=np.float64)[::-1])[::-1]


def _jumps(w: Floats, latency: Floats, errors: Floats) -> NDArray[np.bool_]:
    """Marks the widths after which latency jumps, (n - 1,), bool; all False if jumps are too little of the rise."""
    envelope = least_latency(latency)
    rises, smooth = np.diff(envelope), np.diff(_parabola(w, envelope, errors))
    jumps = rises > np.maximum(np.maximum(errors[:-1], errors[1:]), _JUMP * smooth)
    enough = rises[jumps].sum() >= _SHARE * rises.sum()
    return np.asarray(jumps & enough, dtype=np.bool_)


def _parabola(w: Floats, latency: Floats, errors: Floats) -> Floats:
    return np.asarray(np.polynomial.Polynomial.fit(w, latency, 2, w=1 / errors)(w))
