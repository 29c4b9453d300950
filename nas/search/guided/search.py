"""Predictor-guided search: small batches that promise the most hypervolume under what models expect."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.search.base import FeatureSource, Values
from nas.search.guided.acquisition import Goals, select_batch
from nas.search.guided.candidates import Effort, relatives
from nas.search.guided.models import AutoKind, GeneKind, ModelKind, SurrogateModels
from nas.search.guided.surrogate_search import INITIAL, Measured, SurrogateSearch
from nas.search.problem.objectives import Constraint, Evaluation, Objective
from nas.search.problem.pareto import MARGIN, non_dominated
from nas.search.ranking import survivors
from supernets.space import Architecture, SearchSpace

OPTIMISM = 0.3
"""Each candidate is judged by one sample of its values, 0.3 of a normal deviation on the good side. On NAS-Bench-201 (seven
latencies, 11 to 30 seeds), 0.4 and 0.5 need a tenth more evaluations; on a table of digits networks (150 seeds), 1.3, 1.0 and
0.6 % of the volume are missing after 100 evaluations with 0.3, 0.5 and 0.7. With an earlier model, the expected improvement
(unbiased samples or quantiles), correlated samples and calibrated deviations were worse."""
EVOLVED = 0.5
"""Share of a batch from the evolution over predictions; the rest are relatives of what was measured."""
PARENTS = 30
"""Best architectures measured that relatives are bred from."""


class GuidedSearch(SurrogateSearch):
    """Bayesian optimisation: models are fitted to all evaluations; an inner evolution over their predictions and relatives of
    the best architectures measured are candidates; `select_batch` chooses among them by hypervolume improvement.

    Constraints come first: an infeasible candidate improves nothing, and while no measured architecture is feasible, the
    candidates of least predicted violation are asked for.

    Args:
        seed: A number of at least 0.
        features: Analytic features by the name of each metric that has some; the others are modelled by the Gaussian
            process over genes alone.
        exact, initial, effort, warm_start, constraints: As of `SurrogateSearch`.

    Raises:
        ValueError: no objectives, or an exact metric that is not searched for.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int,
        features: Mapping[str, FeatureSource] | None = None,
        exact: Mapping[str, Values] | None = None,
        initial: int = INITIAL,
        effort: Effort | None = None,
        warm_start: Sequence[Evaluation] = (),
        constraints: Sequence[Constraint] = (),
    ) -> None:
        genes, sources = GeneKind(space, seed=seed), features or {}

        def kinds(metric: str) -> list[ModelKind]:
            return [genes, AutoKind(sources[metric], seed)] if metric in sources else [genes]

        super().__init__(
            space,
            objectives,
            seed=seed,
            kinds=kinds,
            exact=exact,
            initial=initial,
            effort=effort,
            warm_start=warm_start,
            constraints=constraints,
        )

    def _choose(
        self,
        n: int,
        evolved: list[Architecture],
        measured: Measured,
        surrogate: SurrogateModels,
        rng: np.random.Generator,
    ) -> list[Architecture]:
        genes, objectives, broken, first = measured.genes, measured.objectives, measured.violations, measured.first
        front = np.where(broken[first, None] > 0, np.inf, objectives[first])
        best = survivors(objectives, PARENTS, broken)
        parents = genes[best], objectives[best], broken[best]
        bred = relatives(self._genes, self._history.known, parents, self._effort.relatives, rng)

        predicted, violated = self._predicted(surrogate, evolved)
        predicted = predicted[(violated <= 0) & np.isfinite(predicted).all(axis=1)]
        # Infeasible measurements may lie ahead of all feasible ones; they bound the volume only if nothing else does.
        bounding = objectives[first & (broken <= 0)] if len(predicted) else objectives[first]
        batch = _Batch(self._goals, surrogate, front, self._bounds(bounding, predicted), rng)
        proposed = batch.improving(evolved, n_evolved(n, rng), without=())
        proposed += batch.improving(bred, n - len(proposed), without=proposed)
        proposed += batch.improving(evolved, n - len(proposed), without=proposed)
        proposed += batch.least_violating([*bred, *evolved], n - len(proposed), without=proposed)
        return proposed

    def _bounds(self, measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """The reference point of improvements, (m,): beyond the measured front (n, m), and beyond that with predictions (k, m).

        With the measured front alone, a larger and better network than all of it would improve nothing, and the search
        would extend the front by a tenth at a time: on NAS-Bench-201 it needed an eighth to a third more evaluations, and
        some runs stagnated for 100 of them. Predictions that dominate the measured front must not shrink the volume either.
        """
        bounds = _reach(np.vstack([measured, predicted]))
        return np.maximum(bounds, _reach(measured)) if len(measured) else bounds


def _reach(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nadir of the front of values (n, m), moved out."""
    front = values[non_dominated(values)]
    nadir = front.max(axis=0)
    return np.asarray(nadir + MARGIN * (nadir - front.min(axis=0)))


def n_evolved(n: int, rng: np.random.Generator) -> int:
    """The number of a batch of `n` that comes from the evolution: `EVOLVED` of it, rounded at random."""
    n_whole, fraction = divmod(EVOLVED * n, 1.0)
    return int(n_whole) + int(fraction > 0 and rng.random() < fraction)


class _Batch:
    """Greedy selection for one ask: each candidate counts on the predicted improvement of those before it.

    Args:
        front: objectives of the best architectures measured; infinite rows, which are infeasible, have no effect.
        bounds: reference point of the volume.
    """

    def __init__(
        self,
        goals: Goals,
        surrogate: SurrogateModels,
        front: NDArray[np.float64],
        bounds: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        self._goals, self._surrogate, self._front, self._bounds, self._rng = goals, surrogate, front, bounds, rng

    def improving(
        self, pool: Sequence[Architecture], n: int, *, without: Collection[Architecture]
    ) -> list[Architecture]:
        """Up to `n` of the largest improvement; fewer when the others improve nothing."""
        pool = [a for a in pool if a not in without]
        if not pool or n < 1:
            return []
        z = -OPTIMISM * np.abs(self._rng.standard_normal((len(pool), len(self._goals.metrics))))
        samples = self._goals.feasible(self._surrogate.values(pool, z))
        means = self._goals.feasible(self._surrogate.values(pool, 0.0))
        selected = select_batch(samples, means, self._front, self._bounds, n, self._rng)
        self._front = np.vstack([self._front, means[selected]])
        return [pool[i] for i in selected]

    def least_violating(
        self, pool: Sequence[Architecture], n: int, *, without: Collection[Architecture]
    ) -> list[Architecture]:
        """The `n` of least predicted violation, for batches that nothing else completes."""
        pool = [a for a in dict.fromkeys(pool) if a not in without]
        if not pool or n < 1:
            return []
        violations = self._goals.violations(self._surrogate.values(pool, 0.0))
        return [pool[i] for i in np.argsort(violations, kind="stable")[:n]]
