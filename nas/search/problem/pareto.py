"""Pareto fronts of minimised values: dominance, hypervolume, reference point and knee.

Two objectives need numpy alone: loading moocore for them would take longer than the work itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MARGIN = 0.1
"""Share of a difference by which a reference point lies beyond the worst values."""
_BLOCK = 256
"""Rows that are compared with a growing front at once."""


def non_dominated(values: Array) -> NDArray[np.bool_]:
    """Mask of the rows that no other row dominates, (n,).

    A row dominates another when it is nowhere larger and somewhere smaller: equal rows are kept or left out together.
    Rows with a NaN are never kept and dominate nothing; infinities compare as numbers do.

    Args:
        values: (n, m), minimised; n may be 0.

    Raises:
        ValueError: the array has no two axes, or no objectives.
    """
    values = _two_axes(values)
    keep: NDArray[np.bool_] = np.logical_not(np.isnan(values).any(axis=1))
    rows = values[keep] + 0.0  # + 0.0: no negative zeros
    if len(rows):
        keep[keep] = _non_dominated(rows)
    return keep


def _non_dominated(rows: Array) -> NDArray[np.bool_]:
    if rows.shape[1] > 2:
        import moocore

        if not np.isfinite(rows).all():  # on which moocore crashes: the ranks of values compare as the values do
            rows = np.stack([np.unique(column, return_inverse=True)[1] for column in rows.T], axis=1).astype(np.float64)
        return np.asarray(moocore.is_nondominated(rows, keep_weakly=True))
    # Sorted by the first objective, then by the last: no row can be dominated by a later one.
    order = np.lexsort((rows[:, -1], rows[:, 0]))
    rows = rows[order]
    least_before = np.minimum.accumulate(np.concatenate([[np.inf], rows[:-1, -1]]))
    leads = rows[:, -1] < least_before
    leads[0] = True  # even if it is infinite
    is_new = np.ones(len(rows), dtype=bool)
    is_new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    keep = np.empty(len(rows), dtype=bool)
    keep[order] = leads[is_new][np.cumsum(is_new) - 1]  # duplicates share the result of their first
    return keep


def hypervolume(values: Array, reference: Array) -> float:
    """The exact volume dominated by at least one row and bounded by the reference point.

    Args:
        values: (n, m), minimised. Rows that are not below the reference in every objective, and rows with a NaN, add
            nothing; no rows give 0.
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
    if len(reference) > 2:
        import moocore

        return float(moocore.hypervolume(inside, ref=reference))
    if len(reference) == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, 1])]
    heights = np.diff(inside[:, 1], append=reference[1])
    widths = reference[0] - np.minimum.accumulate(inside[:, 0])
    return float(widths @ heights)


class GrowingVolume:
    """The hypervolume of rows that arrive one after another; a row that adds nothing costs a comparison with the front.

    Args:
        reference: (m,), as for `hypervolume`.
    """

    def __init__(self, reference: Array) -> None:
        self._reference = np.asarray(reference, dtype=np.float64)
        self._front = np.empty((0, len(self._reference)))
        self._volume = 0.0

    def add(self, row: Array) -> float:
        """Adds a row of m minimised values and returns the volume of all rows so far."""
        if self.grows(row[None])[0]:
            self._front = np.vstack([self._front[(self._front < row).any(axis=1)], row])
            self._volume = max(self._volume, hypervolume(self._front, self._reference))
        return self._volume

    def grows(self, rows: Array) -> NDArray[np.bool_]:
        """Mask of the rows (n, m) that, each alone, would add volume, (n,)."""
        covered = np.any(np.all(self._front[None] <= rows[:, None], axis=2), axis=1)
        below = np.all(rows < self._reference, axis=1)  # false for NaN
        return np.asarray(below & ~covered)


def hypervolume_history(values: Array, reference: Array) -> Array:
    """The hypervolume of the first 1, 2, ..., n rows, (n,).

    Args and errors as for `hypervolume`.
    """
    values, reference = _with_reference(values, reference)
    growing, volumes = GrowingVolume(reference), np.zeros(len(values))
    for start in range(0, len(values), _BLOCK):
        # Most rows of a long search add nothing: many are rejected at once.
        for i in start + np.flatnonzero(growing.grows(values[start : start + _BLOCK])):
            volumes[i] = growing.add(values[i])
    return np.maximum.accumulate(volumes)


def reference_point(values: Array) -> Array:
    """The worst value of some rows in each objective, moved out by 10 % of their range, (m,).

    A run takes its first networks. Where all are equal in an objective, the magnitude of the value (1 for a value of 0)
    replaces the range: a front at the reference would have no volume.

    Args:
        values: Minimised values, (n, m), n at least 1.

    Raises:
        ValueError: no rows, NaN or infinite values.
    """
    values = _two_axes(values)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"a reference point needs rows of finite values, got {values.tolist()}")
    worst, extent = values.max(axis=0), np.ptp(values, axis=0)
    magnitude = np.where(worst == 0, 1.0, np.abs(worst))
    return np.asarray(worst + MARGIN * np.where(extent > 0, extent, magnitude))


def knee(values: Array) -> int:
    """The index of the front's knee: the row farthest below the line (or plane) between the front's extremes.

    Objectives are scaled so that the front spans 0 to 1 in each; the line joins their ends (Das 1999, "On
    characterizing the 'knee' of the Pareto curve", with normalised individual minima). Dominated and non-finite rows
    are never the knee. Of equals, it is the best in the first objective: so it is for two rows, and for a front that bends
    nowhere below the line.

    Raises:
        ValueError: no row is finite.
    """
    values = _two_axes(values)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(finite):
        raise ValueError("a front without finite rows has no knee")
    front = finite[non_dominated(values[finite])]
    low, high = values[front].min(axis=0), values[front].max(axis=0)
    scaled = (values[front] - low) / np.where(high > low, high - low, 1.0)
    below = np.round(scaled.sum(axis=1), 12)  # rounded: ties are exact
    return int(front[np.lexsort((scaled[:, 0], below))[0]])


def _two_axes(values: Array) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"expected values of shape (rows, objectives), got {values.shape}")
    return values


def _with_reference(values: Array, reference: Array) -> tuple[Array, Array]:
    values, reference = _two_axes(values), np.asarray(reference, dtype=np.float64)
    if reference.shape != values.shape[1:]:
        raise ValueError(f"expected a reference of shape {values.shape[1:]}, got {reference.shape}")
    if np.isnan(reference).any():
        raise ValueError(f"the reference point has a NaN: {reference.tolist()}")
    return values, reference
