"""Predictor-guided search: small batches that promise the most hypervolume under what models expect."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.search.base import FeatureSource, Values
from nas.search.guided.acquisition import Goals, select_batch
from nas.search.guided.candidates import Effort, candidates, first_networks, relatives
from nas.search.guided.models import AutoKind, GeneKind, MetricModel, SurrogateModels
from nas.search.history import HistorySearch, draw_unknown
from nas.search.problem.constraints import total_violation
from nas.search.problem.objectives import Constraint, Evaluation, Objective, Status, minimised
from nas.search.problem.pareto import MARGIN, non_dominated
from nas.search.ranking import first_front, survivors
from nas.search.warm_start import PriorObservations
from predictors.threads import one_thread
from supernets.space import Architecture, SearchSpace

OPTIMISM = 0.3
"""Each candidate is judged by one sample of its values, 0.3 of a normal deviation on the good side. On NAS-Bench-201 (seven
latencies, 11 to 30 seeds), 0.4 and 0.5 need a tenth more evaluations; on a table of digits networks (150 seeds), 1.3, 1.0 and
0.6 % of the volume are missing after 100 evaluations with 0.3, 0.5 and 0.7. With an earlier model, the expected improvement
(unbiased samples or quantiles), correlated samples and calibrated deviations were worse."""
EVOLVED = 0.5
"""Share of a batch from the evolution over predictions; the rest are relatives of what was measured."""
INITIAL = 12
PARENTS = 30
"""Best architectures measured that relatives are bred from."""
WARM_INITIAL = 10
"""With at least `INITIAL` evaluations as a warm start. On NAS-Bench-201 (CIFAR-100 against 1080ti_1 after 100 evaluations on
raspi4; 5 seeds, batches of 8) a median of 16, 20 and 165 evaluations led to 90, 95 and 99 %; without, 32, 44 and over 260."""
_MIN_MODELLED = 6
_HALF_INTERVAL = 1.645
"""Half of a 90 % interval, in standard errors."""


class GuidedSearch(HistorySearch):
    """Bayesian optimisation: models are fitted to all evaluations; an inner evolution over their predictions and relatives of
    the best architectures measured are candidates; `select_batch` chooses among them by hypervolume improvement.

    Constraints come first: an infeasible candidate improves nothing, and while no measured architecture is feasible, the
    candidates of least predicted violation are asked for. The first architectures satisfy the constraints on exact metrics.

    An ask is a function of the seed and the history (and of what was asked for and not evaluated yet), so that a resumed
    search fits once and continues.

    Args:
        seed: A number of at least 0.
        features: Analytic features by the name of each metric that has some; the others are modelled by the Gaussian
            process over genes alone.
        exact: Functions of values in natural sign, (n,), by the name of each metric that is computed, not modelled.
        initial: Number of successful evaluations, those before the first ask included, before the first model.
        constraints: Constraints on objectives or on further metrics, which every evaluation then has too.
        warm_start: Evaluations of other runs: models learn from them, and the promising architectures are candidates.

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
        super().__init__(space, objectives, seed=seed, constraints=constraints)
        self._goals = Goals(objectives, constraints)
        metrics = self._goals.metrics
        self._exact = dict(exact or {})
        stray = sorted(set(self._exact) - {m.name for m in metrics})
        if stray or not objectives:
            names = [m.name for m in metrics]
            raise ValueError(f"exact functions are given for {stray}; expected some of the metrics searched: {names}")
        self._computed = [limit for limit in constraints if limit.metric.name in self._exact]
        genes = GeneKind(space, seed=seed)
        self._kinds: dict[str, list[GeneKind | AutoKind]] = {m.name: [genes] for m in metrics}
        for name, source in (features or {}).items():
            self._kinds.setdefault(name, []).append(AutoKind(source, seed))
        self._initial, self._effort = n_initial(len(warm_start), initial=initial), effort or Effort()
        self._prior = PriorObservations(warm_start, metrics, constraints)
        self._evaluated: dict[Architecture, NDArray[np.float64]] = {}
        self._errors: dict[Architecture, NDArray[np.float64]] = {}
        self._fits: dict[str, dict[str, Any]] = {}
        self._fitted: tuple[int, dict[str, MetricModel], SurrogateModels] | None = None

    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        rng = np.random.default_rng([self._seed, len(self._evaluated)])
        self._fits = {}
        if not self._is_ready():
            violations = self._computed_violations if self._computed else None
            proposed = first_networks(self._genes, self._history.known, n, rng, violations)
        else:
            with one_thread():
                proposed = self._ask_models(n, rng)
        self._history.known.update(proposed)
        return proposed

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Adds to the history; an evaluation without some values still labels the models of the others."""
        for evaluation, row in zip(evaluations, minimised(evaluations, self._goals.metrics), strict=True):
            self._evaluated[evaluation.architecture] = row
            self._errors[evaluation.architecture] = uncertainties(evaluation, self._goals.metrics)
        self._history.add(evaluations)

    def correct(self, evaluations: Sequence[Evaluation]) -> None:
        """Replaces values in the history, from which the next ask fits its models."""
        self.tell(evaluations)
        self._fitted = None

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """The models of the last ask by objective name; empty when the last ask came before the models."""
        return self._fits

    def replay(self, recorded: Sequence[Architecture]) -> list[Architecture]:
        """Returns `recorded`, which is known from now on."""
        self._fits = {}
        return super().replay(recorded)

    def _computed_violations(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Violations of the constraints on exact metrics, (n,)."""
        return total_violation(self._computed, lambda m: self._exact[m.name](architectures), len(architectures))

    def _is_ready(self) -> bool:
        """Returns True if there are enough labels to model."""
        return len(self._history) >= max(self._initial, GeneKind.minimum_rows)

    def _ask_models(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        models, surrogate = self._models()
        goals, evaluated = self._goals, self._history.architectures
        genes, (values, broken) = self._genes.rows(evaluated), self._history.values(evaluated)
        objectives = goals.objectives(values)
        first = first_front(objectives, broken)
        front = np.where(broken[first, None] > 0, np.inf, objectives[first])
        prior = [a for a in self._prior.promising if a not in self._history.known]

        def score(architectures: list[Architecture]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            predicted = surrogate.values(architectures, 0.0)
            return goals.objectives(predicted), goals.violations(predicted)

        near = np.vstack([genes[first], self._genes.rows(prior)])
        evolved = candidates(self._genes, self._history.known, near, score, goals.n_objectives, rng, self._effort)
        evolved = list(dict.fromkeys([*evolved, *prior]))
        best = survivors(objectives, PARENTS, broken)
        parents = genes[best], objectives[best], broken[best]
        bred = relatives(self._genes, self._history.known, parents, self._effort.relatives, rng)

        predicted, violated = score(evolved)
        predicted = predicted[(violated <= 0) & np.isfinite(predicted).all(axis=1)]
        # Infeasible measurements may lie ahead of all feasible ones; they bound the volume only if nothing else does.
        measured = objectives[first & (broken <= 0)] if len(predicted) else objectives[first]
        batch = _Batch(goals, surrogate, front, self._bounds(measured, predicted), rng)
        proposed = batch.improving(evolved, n_evolved(n, rng), without=())
        proposed += batch.improving(bred, n - len(proposed), without=proposed)
        proposed += batch.improving(evolved, n - len(proposed), without=proposed)
        proposed += batch.least_violating([*bred, *evolved], n - len(proposed), without=proposed)
        proposed += draw_unknown(self._genes, {*self._history.known, *proposed}, n - len(proposed), rng)
        self._keep_fits(models, proposed)
        return proposed

    def _models(self) -> tuple[dict[str, MetricModel], SurrogateModels]:
        """The models of all evaluations, and the surrogate made of them; fitted once for each history."""
        if self._fitted is None or self._fitted[0] != len(self._evaluated):
            models = {
                m.name: MetricModel.choose(self._kinds[m.name], m, *self._labels(j))
                for j, m in enumerate(self._goals.metrics)
                if m.name not in self._exact
            }
            surrogate = SurrogateModels(self._goals.metrics, models, self._exact, self._prior)
            self._fitted = len(self._evaluated), models, surrogate
        return self._fitted[1:]

    def _labels(self, j: int) -> tuple[list[Architecture], NDArray[np.float64], NDArray[np.float64]]:
        """Architectures with a value of metric `j`, prior observations first; the values in natural sign, (n,); and the known
        standard errors as shares of them, (n,), 0 for prior observations."""
        value_by_architecture = {a: float(row[j]) for a, row in self._evaluated.items() if np.isfinite(row[j])}
        prior, values = self._prior.column(j, value_by_architecture)
        errors = np.concatenate([np.zeros(len(prior)), [self._errors[a][j] for a in value_by_architecture]])
        minimised = np.concatenate([values, list(value_by_architecture.values())])
        return [*prior, *value_by_architecture], self._goals.metrics[j].sign * minimised, errors

    def _bounds(self, measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """The reference point of improvements, (m,): beyond the measured front (n, m), and beyond that with predictions (k, m).

        With the measured front alone, a larger and better network than all of it would improve nothing, and the search
        would extend the front by a tenth at a time: on NAS-Bench-201 it needed an eighth to a third more evaluations, and
        some runs stagnated for 100 of them. Predictions that dominate the measured front must not shrink the volume either.
        """
        bounds = _reach(np.vstack([measured, predicted]))
        return np.maximum(bounds, _reach(measured)) if len(measured) else bounds

    def _keep_fits(self, models: Mapping[str, MetricModel], proposed: Sequence[Architecture]) -> None:
        for name, model in models.items():
            predicted = model.predictor.predict(model.features(proposed))
            pairs = np.column_stack([predicted.mean, predicted.std]).tolist()
            self._fits[name] = {
                "quality": model.quality.to_json(),
                "predictions": {a.key: pair for a, pair in zip(proposed, pairs, strict=True)},
            }


def uncertainties(evaluation: Evaluation, metrics: Sequence[Objective]) -> NDArray[np.float64]:
    """Standard errors of noisy timed metrics as shares of their values, (m,); 0 for other metrics, and where there is no value.

    An error of a timed metric is half of a 90 % interval. Those of calm machines are smaller than what models err by.
    """
    errors = np.zeros(len(metrics))
    for j, metric in enumerate(metrics):
        measurement = evaluation.measurements.get(metric.name)
        if measurement is None or metric.profile is None:
            continue
        if measurement.status is Status.NOISY and measurement.value:
            errors[j] = (measurement.error or 0.0) / abs(measurement.value) / _HALF_INTERVAL
    return errors


def _reach(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nadir of the front of values (n, m), moved out."""
    front = values[non_dominated(values)]
    nadir = front.max(axis=0)
    return np.asarray(nadir + MARGIN * (nadir - front.min(axis=0)))


def n_initial(n_prior: int, *, initial: int = INITIAL) -> int:
    """Evaluations with all values before the first model, given the number of evaluations of a warm start."""
    return max(min(initial, WARM_INITIAL) if n_prior >= initial else initial, _MIN_MODELLED)


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
