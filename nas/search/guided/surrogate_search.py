"""Searches by models of the metrics: what they have in common, whatever chooses among the candidates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.search.base import Values
from nas.search.genes import Rows
from nas.search.guided.acquisition import Goals
from nas.search.guided.candidates import Effort, Pool, candidates, first_networks
from nas.search.guided.models import MetricModel, ModelKind, SurrogateModels
from nas.search.history import HistorySearch, draw_unknown
from nas.search.problem.constraints import total_violation
from nas.search.problem.objectives import Constraint, Evaluation, Objective, Status, minimised
from nas.search.problem.pareto import Array
from nas.search.ranking import first_front
from nas.search.warm_start import PriorObservations
from predictors.threads import one_thread
from supernets.space import Architecture, SearchSpace

INITIAL = 12
WARM_INITIAL = 10
"""With at least `INITIAL` evaluations as a warm start. On NAS-Bench-201 (CIFAR-100 against 1080ti_1 after 100 evaluations on
raspi4; 5 seeds, batches of 8) a median of 16, 20 and 165 evaluations led to 90, 95 and 99 %; without, 32, 44 and over 260."""
_MIN_MODELLED = 6
_HALF_INTERVAL = 1.645
"""Half of a 90 % interval, in standard errors."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The architectures measured before an ask.

    Attributes:
        genes: Genes, (n, n_choices).
        objectives: Minimised values, (n, m), as volumes are taken of them.
        violations: Violations, (n,); 0 for feasible architectures.
        first: Mask of the front of the feasible ones, (n,), or of those of least violation while none is feasible.
    """

    genes: Rows
    objectives: Array
    violations: Array
    first: NDArray[np.bool_]


class SurrogateSearch(HistorySearch):
    """Measures an initial sample; before each further ask it fits models to all evaluations and breeds candidates by an NSGA-II
    on what they predict. A subclass chooses among them.

    The first architectures satisfy the constraints on exact metrics. An ask is a function of the seed and the history (and of
    what was asked for and not evaluated yet), so that a resumed search fits once and continues.

    Args:
        seed: A number of at least 0.
        kinds: A function that returns the kinds of models of a metric by its name; the one of least error is used.
        exact: Functions of values in natural sign, (n,), by the name of each metric that is computed, not modelled.
        initial: Number of successful evaluations, those before the first ask included, before the first model.
        effort: Numbers of candidates; None for those of `Effort`.
        warm_start: Evaluations of other runs: models learn from them, and the promising architectures are candidates.
        constraints: Constraints on objectives or on further metrics, which every evaluation then has too.

    Raises:
        ValueError: no objectives, or an exact metric that is not searched for.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int,
        kinds: Callable[[str], Sequence[ModelKind]],
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
        self._kinds = {m.name: kinds(m.name) for m in metrics}
        self._min_rows = max(min(kind.minimum_rows for kind in each) for each in self._kinds.values())
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
        return len(self._history) >= max(self._initial, self._min_rows)

    @abstractmethod
    def _choose(
        self,
        n: int,
        evolved: list[Architecture],
        measured: Measured,
        surrogate: SurrogateModels,
        rng: np.random.Generator,
    ) -> list[Architecture]:
        """Up to `n` unknown architectures to measure next; random ones complete the batch.

        Args:
            evolved: Candidates of the evolution, all different and unknown.
            measured: The architectures with values.
            surrogate: Predictions of all metrics.
        """

    def _ask_models(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        models, surrogate = self._models()
        evaluated = self._history.architectures
        values, broken = self._history.values(evaluated)
        objectives = self._goals.objectives(values)
        measured = Measured(self._genes.rows(evaluated), objectives, broken, first_front(objectives, broken))
        prior = [a for a in self._prior.promising if a not in self._history.known]
        near = np.vstack([measured.genes[measured.first], self._genes.rows(prior)])

        def score(architectures: list[Architecture]) -> tuple[Array, Array]:
            return self._predicted(surrogate, architectures)

        n_objectives = self._goals.n_objectives
        pool = candidates(self._genes, self._history.known, near, score, n_objectives, rng, self._effort)
        evolved = list(dict.fromkeys([*pool.architectures, *prior]))
        proposed = self._choose(n, evolved, measured, surrogate, rng)
        proposed += draw_unknown(self._genes, {*self._history.known, *proposed}, n - len(proposed), rng)
        self._record_fits(models, proposed, pool)
        return proposed

    def _predicted(self, surrogate: SurrogateModels, architectures: list[Architecture]) -> tuple[Array, Array]:
        """Minimised objectives (n, m) and violations (n,) that models expect."""
        predicted = surrogate.values(architectures, 0.0)
        return self._goals.objectives(predicted), self._goals.violations(predicted)

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

    def _record_fits(self, models: Mapping[str, MetricModel], proposed: Sequence[Architecture], pool: Pool) -> None:
        evolution = {"generations": pool.generations, "bred": pool.bred, "candidates": len(pool.architectures)}
        for name, model in models.items():
            predicted = model.predictor.predict(model.features(proposed))
            pairs = np.column_stack([predicted.mean, predicted.std]).tolist()
            self._fits[name] = {
                "quality": model.quality.to_json(),
                "weights": dict(model.weights),
                "evolution": evolution,
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


def n_initial(n_prior: int, *, initial: int = INITIAL) -> int:
    """Evaluations with all values before the first model, given the number of evaluations of a warm start."""
    return max(min(initial, WARM_INITIAL) if n_prior >= initial else initial, _MIN_MODELLED)
