"""Ranks of evaluated architectures: feasible before infeasible, then by front, then by crowding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.search.problem.pareto import Array, non_dominated


def crowding(values: Array) -> Array:
    """NSGA-II's crowding distance of the rows of one front, (n,); infinite at its ends."""
    out = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] or 1.0
        out[order[[0, -1]]] = np.inf
        out[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return out


def survivors(values: Array, n: int, violations: Array | None = None) -> NDArray[np.int64]:
    """Indices of the `n` best rows, best first.

    By violation (so that the feasible come first: Deb 2000, "An efficient constraint handling method for genetic
    algorithms"), then by front, and by crowding within one (Deb et al. 2002).

    Args:
        values: (m, k), minimised, all finite; m may be 0.
        violations: (m,), 0 for feasible rows; None where there are no constraints.
    """
    if violations is None:
        return _by_front(values, np.arange(len(values)), n)
    out = np.empty(0, dtype=np.int64)
    for violation in np.unique(violations):
        if len(out) >= n:
            break
        out = np.concatenate([out, _by_front(values, np.flatnonzero(violations == violation), n - len(out))])
    return out


def first_front(values: Array, violations: Array) -> NDArray[np.bool_]:
    """Mask of the front of the feasible rows, (n,); if none is feasible, of the rows of least violation."""
    keep = np.zeros(len(values), dtype=bool)
    if len(values):
        least_violating = violations == violations.min()
        keep[least_violating] = non_dominated(values[least_violating])
    return keep


def _by_front(values: Array, unranked: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    out = np.empty(0, dtype=np.int64)
    while len(out) < n and len(unranked):
        first = non_dominated(values[unranked])
        front = unranked[first]
        out = np.concatenate([out, front[np.argsort(-crowding(values[front]), kind="stable")]])
        unranked = unranked[~first]
    return out[:n]
