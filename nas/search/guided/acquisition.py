"""Acquisition: a batch of candidates chosen greedily by hypervolume improvement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.problem.constraints import total_violation
from nas.search.problem.objectives import LOGARITHMIC_METRICS, Constraint, Objective, metrics_of
from nas.search.problem.pareto import Array, non_dominated

VOLUME_SAMPLES = 2_000
"""Points from which volumes of three and more objectives are estimated."""


class Goals:
    """Objectives and constraints over columns of minimised values: the objectives, then the metrics of constraints alone.

    Attributes:
        metrics: Metrics of the columns.
        n_objectives: Number of columns, from the first on, that are objectives.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self.metrics = metrics_of(objectives, constraints)
        self.n_objectives = len(objectives)
        self._constraints = list(constraints)
        self._logarithmic = np.array([o.metric in LOGARITHMIC_METRICS for o in objectives], dtype=bool)

    def objectives(self, values: Array) -> Array:
        """The objectives of values (..., n_metrics or n_objectives), (..., n_objectives), as volumes are taken of them.

        Perplexities by their logarithm: with those of broken networks, in the hundreds, the volume would else be theirs.
        """
        values = values[..., : self.n_objectives]
        if not self._logarithmic.any():
            return values
        return np.where(self._logarithmic, np.log(values, where=self._logarithmic, out=np.zeros_like(values)), values)

    def violations(self, values: Array) -> Array:
        """`total_violation` of values (..., n_metrics), (...)."""
        return total_violation(
            self._constraints, lambda m: m.sign * values[..., self.metrics.index(m)], values.shape[:-1]
        )

    def feasible(self, values: Array) -> Array:
        """The objectives of values, infinite where a constraint is violated: they improve no front."""
        violated = self.violations(values) > 0
        return np.where(violated[..., None], np.inf, self.objectives(values))


def hypervolume_improvements(values: Array, front: Array, reference: Array, points: Array | None = None) -> Array:
    """The hypervolume that each row alone would add to a front, (n,).

    Exact for one and two objectives; otherwise the number of `points` that the row adds.

    Args:
        values: (n, m), minimised.
        front: (f, m), of which only the non-dominated rows count; f may be 0.
        points: (k, m) points below the reference, see `sample_points`.
    """
    front = front[(front < reference).all(axis=1)]
    front = front[non_dominated(front)]
    if values.shape[1] == 1:
        best = min([float(reference[0]), *front[:, 0].tolist()])
        return np.asarray(np.maximum(best - values[:, 0], 0.0))
    if values.shape[1] == 2:
        return _improvements_of_two(values, front, reference)
    if points is None:
        raise ValueError("hypervolume improvements of three or more objectives need sample points")
    covered = np.all(front[None, :, :] <= points[:, None, :], axis=2)
    free = points[~np.any(covered, axis=1)]
    return np.array([(row <= free).all(axis=1).sum() for row in values], dtype=np.float64)


def sample_points(values: Array, reference: Array, rng: np.random.Generator) -> Array:
    """Random points between the best of (n, m) values and the reference, (k, m)."""
    low = np.minimum(values.min(axis=0), reference)
    return rng.uniform(low, reference, size=(VOLUME_SAMPLES, len(reference)))


def _improvements_of_two(values: Array, front: Array, reference: Array) -> Array:
    front = np.unique(front, axis=0)  # by the first objective, so that the second falls
    left = np.concatenate([[-np.inf], front[:, 0]])
    right = np.concatenate([front[:, 0], [reference[0]]])
    height = np.concatenate([[reference[1]], front[:, 1]])
    width = np.maximum(right - np.maximum(left, values[:, :1]), 0.0)
    return np.asarray((width * np.maximum(height - values[:, 1:], 0.0)).sum(axis=1))


def select_batch(
    samples: Array, means: Array, front: Array, reference: Array, n: int, rng: np.random.Generator
) -> list[int]:
    """Indices of up to `n` candidates; each improves the hypervolume most, given those selected before it.

    Args:
        samples: (candidates, m), by which candidates are judged: optimistic draws from their predictions.
        means: (candidates, m), which a selected candidate adds to the front.
        front: (f, m), measured.

    Returns:
        Fewer than `n` when no further candidate improves anything.
    """
    points = sample_points(np.vstack([samples, front]), reference, rng) if samples.shape[1] > 2 else None
    selected: list[int] = []
    while len(selected) < min(n, len(samples)):
        improvements = hypervolume_improvements(samples, front, reference, points)
        improvements[selected] = 0.0
        best = int(np.argmax(improvements))
        if improvements[best] <= 0.0:
            break
        selected.append(best)
        front = np.vstack([front, means[best]])
    return selected
