"""Which candidates to measure: greedy picks by the hypervolume that they promise to add."""

from __future__ import annotations

import numpy as np

from nas.problem.pareto import Array, non_dominated
from nas.search.ranking import crowding as crowding
from nas.search.ranking import survivors as survivors

VOLUME_SAMPLES = 2_000
"""Points that volumes of three and more objectives are estimated from."""


def volume_gains(values: Array, front: Array, reference: Array, points: Array | None = None) -> Array:
    """What each row alone would add to the hypervolume of a front, (n,).

    Exact for one and two objectives; else by counting `points`.

    Args:
        values: (n, m) figures to minimise.
        front: (f, m) figures, of which only the non-dominated ones count; f may be 0.
        points: (k, m) points below the reference, see `sample_points`.
    """
    front = front[(front < reference).all(axis=1)]
    front = front[non_dominated(front)]
    if values.shape[1] == 1:
        best = min([float(reference[0]), *front[:, 0].tolist()])
        gained: Array = np.maximum(best - values[:, 0], 0.0)
        return gained
    if values.shape[1] == 2:
        return _gains_of_two(values, front, reference)
    if points is None:
        raise ValueError("gains of three or more objectives need points to count")
    covered = np.all(front[None, :, :] <= points[:, None, :], axis=2)
    free = points[~np.any(covered, axis=1)]
    return np.array([(row <= free).all(axis=1).sum() for row in values], dtype=np.float64)


def sample_points(values: Array, reference: Array, rng: np.random.Generator) -> Array:
    """Random points between the best figures of (n, m) values and the reference, (k, m)."""
    low = np.minimum(values.min(axis=0), reference)
    return rng.uniform(low, reference, size=(VOLUME_SAMPLES, len(reference)))


def _gains_of_two(values: Array, front: Array, reference: Array) -> Array:
    front = np.unique(front, axis=0)  # by the first objective, so that the second falls
    left = np.concatenate([[-np.inf], front[:, 0]])
    right = np.concatenate([front[:, 0], [reference[0]]])
    height = np.concatenate([[reference[1]], front[:, 1]])
    width = np.maximum(right - np.maximum(left, values[:, :1]), 0.0)
    gains: Array = (width * np.maximum(height - values[:, 1:], 0.0)).sum(axis=1)
    return gains


def pick_greedily(
    draws: Array, believed: Array, front: Array, reference: Array, n: int, rng: np.random.Generator
) -> list[int]:
    """Indices of up to `n` candidates, each the one that adds most on average over the draws, given those before it.

    Args:
        draws: (s, candidates, m) possible figures of each candidate.
        believed: (candidates, m) what a pick is taken to be worth when the next one is chosen.
        front: (f, m) figures known.

    Returns:
        Fewer than `n` when no further candidate promises to add anything.
    """
    n_draws, n_candidates, m = draws.shape
    flat = draws.reshape(-1, m)
    points = sample_points(np.vstack([flat, front]), reference, rng) if m > 2 else None
    picked: list[int] = []
    while len(picked) < min(n, n_candidates):
        gains = volume_gains(flat, front, reference, points).reshape(n_draws, n_candidates).mean(axis=0)
        gains[picked] = 0.0
        best = int(np.argmax(gains))
        if gains[best] <= 0.0:
            break
        picked.append(best)
        front = np.vstack([front, believed[best]])
    return picked
