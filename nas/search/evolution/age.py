"""AGE-MOEA's survival: distances in the estimated geometry of the front."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymoo.core.survival import Survival
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from nas.search.problem.pareto import Array

_TINY = 1e-8
_MIN_P, _MAX_P = 0.1, 20.0


class AgeSurvival(Survival):  # type: ignore[misc]
    """Survival by front, then by distance to neighbours over distance to the ideal point (AGE-MOEA).

    Panichella 2019, "An adaptive evolutionary algorithm based on non-Euclidean geometry for many-objective
    optimization" (doi 10.1145/3321707.3321839). pymoo's own version needs numba; numpy takes a
    millisecond. Sets ``rank`` and ``crowding`` (the paper's survival score), which tournaments compare.
    """

    def __init__(self) -> None:
        super().__init__(filter_infeasible=True)

    def _do(self, problem: Any, pop: Any, *args: Any, n_survive: int = 0, **kwargs: Any) -> Any:
        values = pop.get("F")
        fronts = [np.asarray(front) for front in NonDominatedSorting().do(values, n_stop_if_ranked=n_survive)]
        ideal = values[fronts[0]].min(axis=0)
        score, p, scale = first_scores(values[fronts[0]] - ideal)
        surviving: list[int] = []
        for rank, front in enumerate(fronts):
            if rank:
                score = 1.0 / np.maximum(norms((values[front] - ideal) / scale, p), _TINY)
            for i, row_score in zip(front, score, strict=True):
                pop[i].set("rank", rank)
                pop[i].set("crowding", row_score)
            surviving.extend(front[np.argsort(-score, kind="stable")][: n_survive - len(surviving)])
        return pop[surviving]


def norms(rows: Array, p: float) -> Array:
    """L_p norms of rows that are nowhere negative, (n,)."""
    return np.asarray((np.abs(rows) ** p).sum(axis=1) ** (1.0 / p))


def first_scores(front: Array) -> tuple[Array, float, Array]:
    """Survival scores of the first front, (n,), the exponent of its geometry, and the scales of its objectives, (m,).

    Infinite for the ends; else the distance to the two nearest of those scored before, over the distance to the ideal point.

    Args:
        front: (n, m) values minus the ideal point.
    """
    ends = _ends(front)
    scale = _intercepts(front, ends)
    front = front / scale
    p = _exponent(front, ends)
    scores = np.full(len(front), np.inf)
    near = np.maximum(norms(front, p), _TINY)
    apart = np.array([norms(front - row, p) for row in front]) / near[:, None]
    scored, unscored = list(ends), [i for i in range(len(front)) if i not in ends]
    while unscored:
        two = np.sort(apart[np.ix_(unscored, scored)], axis=1)[:, :2].sum(axis=1)
        best = int(np.argmax(two))
        scores[unscored[best]] = two[best]
        scored.append(unscored.pop(best))
    return scores, p, scale


def _ends(front: Array) -> list[int]:
    """The row nearest to the axis of each objective, all different; every row where there are no more than objectives."""
    n, m = front.shape
    if n <= m:
        return list(range(n))
    ends: list[int] = []
    for axis in range(m):
        off = (np.delete(front, axis, axis=1) ** 2).sum(axis=1)
        off[ends] = np.inf
        ends.append(int(np.argmin(off)))
    return ends


def _intercepts(front: Array, ends: list[int]) -> Array:
    """Intercepts of the plane through the ends with the axes, (m,); each objective's largest value if it cuts them nowhere."""
    m, intercepts = front.shape[1], front.max(axis=0)
    if len(ends) == m and np.linalg.matrix_rank(front[ends]) == m:
        plane = np.linalg.solve(front[ends], np.ones(m))
        if (plane > 0).all():
            intercepts = 1.0 / plane
    return np.where((intercepts > 0) & np.isfinite(intercepts), intercepts, 1.0)


def _exponent(front: Array, ends: list[int]) -> float:
    """The p of the L_p unit sphere that goes through the front's most central row, 1 where there is none."""
    m = front.shape[1]
    middle = front - front.mean(axis=1, keepdims=True)
    off = (middle**2).sum(axis=1)
    off[ends] = np.inf
    mean = float(front[int(np.argmin(off))].mean())
    if m < 2 or not np.isfinite(off).any() or not 0.0 < mean < 1.0:
        return 1.0
    p = float(np.log(m) / -np.log(mean))
    return min(p, _MAX_P) if p > _MIN_P else 1.0
