"""Pareto fronts of minimised figures: dominance, hypervolume, reference point and knee (numpy alone)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MARGIN = 0.1
"""Share of a difference by which a reference point lies beyond the worst figures."""
_BLOCK = 256
"""Rows that a growing front is compared with at once."""


def non_dominated(values: Array) -> NDArray[np.bool_]:
    """Which rows no other row dominates, (n,).

    A row dominates another when it is nowhere larger and somewhere smaller, so that equal rows are kept or left out
    together. Rows with a NaN are never kept and dominate nothing; infinities compare as numbers do.

    Args:
        values: (n, m) figures to minimise; n may be 0.

    Raises:
        ValueError: the array has no two axes, or no objectives.
    """
    values = _two_axes(values)
    keep = np.zeros(len(values), dtype=bool)
    valid = np.flatnonzero(~np.isnan(values).any(axis=1))
    if not len(valid):
        return keep
    # Sorted by the first objective, then the second, ...: no row can be dominated by a later one.
    rows, inverse = np.unique(values[valid] + 0.0, axis=0, return_inverse=True)  # + 0.0: no negative zeros
    keep[valid] = _sorted_non_dominated(rows)[inverse.ravel()]
    return keep


def hypervolume(values: Array, reference: Array) -> float:
    """The exact volume that is dominated by at least one row and bounded by the reference point.

    By slicing the last objective (While et al. 2006, "A faster algorithm for calculating hypervolume", section II), where
    a slice adds one row to the front of those before and pays for what the row adds alone: n log n for two
    and three objectives.

    Args:
        values: (n, m) figures to minimise. Rows that are not below the reference in every objective, and rows with a
            NaN, add nothing; no rows give 0.
        reference: (m,).

    Returns:
        The product of the objectives' units; infinite where a counted row is minus infinity or the reference infinite.

    Raises:
        ValueError: shapes that do not match, or a NaN in the reference.
    """
    values, reference = _with_reference(values, reference)
    inside = values[(values < reference).all(axis=1)]  # false for NaN
    if not len(inside):
        return 0.0
    if not (np.isfinite(inside).all() and np.isfinite(reference).all()):
        return float("inf")
    return _volume(inside, reference)


def hypervolume_history(values: Array, reference: Array) -> Array:
    """The hypervolume of the first 1, 2, ..., n rows, (n,); each step costs what the new row adds.

    Args and errors as for `hypervolume`.
    """
    values, reference = _with_reference(values, reference)
    front, gains = _growing(reference), np.zeros(len(values))
    inside = (values < reference).all(axis=1)  # false for NaN
    endless = np.asarray(np.isinf(values).any(axis=1) | np.isinf(reference).any())
    rows = np.flatnonzero(inside)
    for some in np.split(rows, range(_BLOCK, len(rows), _BLOCK)):
        # Most rows of a long search add nothing, which is found out for many at once.
        for i in some[endless[some] | ~front.covered(values[some])].tolist():
            if endless[i]:
                gains[i] = np.inf
                return np.cumsum(gains)
            gains[i] = front.add(values[i])
    return np.cumsum(gains)


class GrowingVolume:
    """The hypervolume of rows that come one after another: adding one costs what it adds, not what came before.

    Args:
        reference: (m,), as for `hypervolume`.
    """

    def __init__(self, reference: Array) -> None:
        self._reference = np.asarray(reference, dtype=np.float64)
        self._finite = bool(np.isfinite(self._reference).all())
        self._front = _growing(self._reference)
        self._volume = 0.0

    def add(self, row: Array) -> float:
        """Adds a row of m minimised figures and returns the volume of all rows so far."""
        if np.isfinite(self._volume) and (row < self._reference).all():  # false for NaN
            finite = self._finite and bool(np.isfinite(row).all())
            self._volume += self._front.add(row) if finite else float("inf")
        return self._volume


def reference_point(first: Array, second: Array) -> Array:
    """The worse figure of two rows in each objective, moved out by 10 % of their difference, (m,).

    A run takes the smallest and the largest architecture. Where they are equal in an objective, the magnitude of the
    figure (1 for a figure of 0) stands in for the difference: a front at the reference would have no volume.

    Raises:
        ValueError: shapes that do not match, NaN or infinite figures.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"expected two rows of equal length, got shapes {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError(f"a reference point needs finite figures, got {first.tolist()} and {second.tolist()}")
    worst, difference = np.maximum(first, second), np.abs(first - second)
    magnitude = np.where(worst == 0, 1.0, np.abs(worst))
    point: Array = worst + MARGIN * np.where(difference > 0, difference, magnitude)
    return point


def knee(values: Array) -> int:
    """The index of the front's knee: the row farthest below the line (or plane) between the front's extremes.

    Objectives are scaled so that the front spans 0 to 1 in each; the line joins their ends (Das 1999, "On
    characterizing the 'knee' of the Pareto curve", with normalised individual minima). Dominated and non-finite rows
    are never the knee. The first of equals is taken: of one or two rows, the first.

    Raises:
        ValueError: no row has finite figures.
    """
    values = _two_axes(values)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(finite):
        raise ValueError("a front without finite figures has no knee")
    front = finite[non_dominated(values[finite])]
    low, high = values[front].min(axis=0), values[front].max(axis=0)
    scaled = (values[front] - low) / np.where(high > low, high - low, 1.0)
    return int(front[np.argmin(np.round(scaled.sum(axis=1), 12))])  # rounded: ties are exact


def _two_axes(values: Array) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"expected figures of shape (rows, objectives), got {values.shape}")
    return values


def _with_reference(values: Array, reference: Array) -> tuple[Array, Array]:
    values, reference = _two_axes(values), np.asarray(reference, dtype=np.float64)
    if reference.shape != values.shape[1:]:
        raise ValueError(f"expected a reference of shape {values.shape[1:]}, got {reference.shape}")
    if np.isnan(reference).any():
        raise ValueError(f"the reference point has a NaN: {reference.tolist()}")
    return values, reference


def _sorted_non_dominated(rows: Array) -> NDArray[np.bool_]:
    """`non_dominated` for distinct rows in lexicographic order."""
    keep = np.ones(len(rows), dtype=bool)
    if rows.shape[1] == 1:
        keep[1:] = False
    elif rows.shape[1] == 2:
        keep[1:] = rows[1:, 1] < np.minimum.accumulate(rows[:-1, 1])
    elif rows.shape[1] == 3:
        stairs = _Staircase(np.full(2, np.inf))
        for i, row in enumerate(rows[:, 1:]):
            keep[i] = not stairs.covers(row)
            if keep[i]:
                stairs.add(row)
    else:
        front, n_front = np.empty_like(rows), 0
        for i, row in enumerate(rows):
            keep[i] = not (front[:n_front] <= row).all(axis=1).any()
            if keep[i]:
                front[n_front] = row
                n_front += 1
    return keep


def _volume(rows: Array, reference: Array) -> float:
    """Hypervolume of at least one finite row, all below the reference."""
    if rows.shape[1] == 1:
        return float(reference[0] - rows.min())
    rows = rows[np.lexsort(rows.T)]  # by the last objective
    heights = np.diff(rows[:, -1], append=reference[-1])
    if rows.shape[1] == 2:
        widths = reference[0] - np.minimum.accumulate(rows[:, 0])
        return float((widths * heights).sum())
    slices, base, volume = _growing(reference[:-1]), 0.0, 0.0
    for row, height in zip(rows[:, :-1], heights.tolist(), strict=True):
        base += slices.add(row)
        volume += base * height
    return volume


def _growing(reference: Array) -> _Staircase | _Front:
    return _Staircase(reference) if len(reference) == 2 else _Front(reference)


class _Staircase:
    """A growing front of two objectives, as sorted lists: adding a row costs a binary search and what it removes."""

    def __init__(self, reference: Array) -> None:
        self._x: list[float] = []  # ascending
        self._y: list[float] = []  # descending
        self._end_x, self._end_y = float(reference[0]), float(reference[1])

    def covers(self, row: Array) -> bool:
        """Whether a row of the front is nowhere larger than this one."""
        x, y = float(row[0]), float(row[1])
        last = bisect_right(self._x, x)
        return last > 0 and self._y[last - 1] <= y

    def covered(self, rows: Array) -> NDArray[np.bool_]:
        """Which of some rows `covers`, (n,)."""
        return np.array([self.covers(row) for row in rows], dtype=bool)

    def add(self, row: Array) -> float:
        """Adds a row below the reference and returns the volume gained."""
        if self.covers(row):
            return 0.0
        x, y = float(row[0]), float(row[1])
        start = stop = bisect_left(self._x, x)
        gain, left, top = 0.0, x, self._y[start - 1] if start else self._end_y
        while stop < len(self._x) and self._y[stop] >= y:
            gain += (self._x[stop] - left) * (top - y)
            left, top = self._x[stop], self._y[stop]
            stop += 1
        right = self._x[stop] if stop < len(self._x) else self._end_x
        gain += (right - left) * (top - y)
        self._x[start:stop], self._y[start:stop] = [x], [y]
        return gain


class _Front:
    """A growing front of any number of objectives."""

    def __init__(self, reference: Array) -> None:
        self._reference = reference
        self._rows = np.empty((0, len(reference)))

    def covered(self, rows: Array) -> NDArray[np.bool_]:
        """For which of some rows there is one of the front that is nowhere larger, (n,)."""
        found: NDArray[np.bool_] = np.any(np.all(self._rows[None] <= rows[:, None], axis=2), axis=1)
        return found

    def add(self, row: Array) -> float:
        """Adds a row below the reference and returns the volume gained: its box without what the front covers of it."""
        clipped = np.maximum(self._rows, row)
        above = clipped > row
        n_above = above.sum(axis=1)
        if (n_above == 0).any():
            return 0.0
        # A row that is worse in one objective alone covers the box from there on: what is left is a smaller box.
        ends = np.where(above & (n_above == 1)[:, None], clipped, np.inf)
        box = np.minimum(self._reference, ends.min(axis=0, initial=np.inf))
        gain = float(np.prod(box - row))
        inside = clipped[(clipped < box).all(axis=1)]
        if len(inside):
            gain -= _volume(inside, box)
        self._rows = np.vstack([self._rows[(self._rows < row).any(axis=1)], row])
        return gain
