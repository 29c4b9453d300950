"""LINAS: loops of evolution on predictors and measurement of its last population."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.linear_model import Ridge
from sklearn.svm import SVR

from nas.search.base import AsynchronousAlgorithm
from nas.search.evolution.breeding import evolve, linas_operators
from nas.search.genes import GeneRows
from nas.search.history import History, draw_unknown
from nas.search.problem.constraints import total_violation
from nas.search.problem.objectives import Constraint, Evaluation, Objective, metrics_of
from nas.search.problem.pareto import Array
from nas.search.ranking import survivors
from predictors.threads import one_thread
from supernets.space import Architecture, SearchSpace

PER_LOOP = 50
GENERATIONS = 400
PENALTIES = (0.1, 1.0, 10.0)
COSTS = (1.0, 10.0, 100.0)
"""Grids of ridge's penalty and of the support vectors' cost for cross-validation."""
_FOLDS = 5
_RESTARTS = 3
"""Inner searches in a row that may find only known architectures before random ones are drawn."""


class LINAS(AsynchronousAlgorithm):
    """Lightweight iterative neural architecture search (Cummings et al. 2022, arXiv 2205.10358).

    The first loop is random, with the smallest and the largest architecture. Each later loop fits a predictor for each
    metric, runs NSGA-II on the predictions from a random start, and measures the unknown part of its last population,
    best first. That part may be small, since the inner search may return to known architectures. Then an ask returns
    fewer than requested, and the next one begins a loop.

    Departures: three penalties of ridge and three costs of support vectors are compared, on standardised labels, by mean
    absolute error. Violations are predicted; feasible architectures survive first. If three inner searches in a row find
    nothing unknown, or the space has less than a loop left, architectures are drawn at random.

    Args:
        seed: A number of at least 0.
        per_loop: Number of architectures of the first loop, and the inner population; at least 10.
        generations: Number of generations of the inner search.

    Raises:
        ValueError: fewer than 10 per loop, which cannot be cross-validated.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int,
        constraints: Sequence[Constraint] = (),
        per_loop: int = PER_LOOP,
        generations: int = GENERATIONS,
    ) -> None:
        if per_loop < 2 * _FOLDS:
            raise ValueError(f"{per_loop} architectures per loop; cross-validation needs at least {2 * _FOLDS}")
        self._space, self._objectives, self._seed = space, list(objectives), seed
        self._constraints, self._per_loop, self._generations = list(constraints), per_loop, generations
        self._genes = GeneRows(space)
        self._history = History(objectives, constraints)
        self._metrics = metrics_of(objectives, constraints)
        self._values: dict[str, dict[Architecture, float]] = {m.name: {} for m in self._metrics}
        self._queue: list[Architecture] = []

    def ask(self, n: int, *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """The rest of the loop, up to `n` unknown architectures; none when the space is used up."""
        self._history.known.update(pending)
        queue = [a for a in self._queue if a not in self._history.known] or self._loop(n)
        proposed, self._queue = queue[:n], queue[n:]
        self._history.known.update(proposed)
        return proposed

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Adds labels for the next loop's predictors; evaluations with a NaN or an infinity are only known."""
        usable = set(self._history.add(evaluations))
        for evaluation in evaluations:
            if evaluation.architecture in usable:
                for metric in self._metrics:
                    if not math.isnan(value := evaluation.value(metric)):
                        self._values[metric.name][evaluation.architecture] = value

    def replay(self, recorded: Sequence[Architecture], *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Searches again, so that the rest of the loop is known; the recorded architectures replace those found."""
        again = self.ask(len(recorded), pending=pending)
        self._history.replace(again, recorded)
        return again

    def _loop(self, n: int) -> list[Architecture]:
        """The architectures of a new loop; at most `n` random ones when there is nothing to learn from, or little left."""
        known_architectures = self._history.known
        rng = np.random.default_rng([self._seed, len(known_architectures)])
        if len(known_architectures) < self._per_loop:
            return draw_unknown(self._genes, known_architectures, self._per_loop - len(known_architectures), rng)
        n_unknown = self._space.size - len(known_architectures)
        min_labels = min(map(len, self._values.values()))
        if n_unknown > self._per_loop and len(self._history) >= 2 * _FOLDS and min_labels >= _FOLDS:
            with one_thread():
                models = {name: _Model.fit(*self._rows(name), rng) for name in self._values}
                for _ in range(_RESTARTS):
                    if unknown := [a for a in self._inner(models, rng) if a not in known_architectures]:
                        return unknown
        return draw_unknown(self._genes, known_architectures, n, rng)

    def _rows(self, name: str) -> tuple[Array, Array]:
        """Features and labels of one metric."""
        value_by_architecture = self._values[name]
        return self._one_hot(list(value_by_architecture)), np.array(list(value_by_architecture.values()))

    def _one_hot(self, architectures: Sequence[Architecture]) -> Array:
        return self._space.encode(architectures)[:, : int(self._space.levels.sum())]

    def _inner(self, models: Mapping[str, _Model], rng: np.random.Generator) -> list[Architecture]:
        """The different architectures of the last population, the best predicted first."""

        def score(levels: NDArray[np.int64]) -> tuple[Array, Array]:
            rows = self._one_hot(self._genes.architectures(self._genes.canonical(levels)))
            predicted_by_metric = {name: model.predict(rows) for name, model in models.items()}
            broken = total_violation(self._constraints, lambda metric: predicted_by_metric[metric.name], len(rows))
            return np.column_stack([o.sign * predicted_by_metric[o.name] for o in self._objectives]), broken

        last = evolve(
            self._genes.levels,
            score,
            len(self._objectives),
            operators=linas_operators(),
            population=self._per_loop,
            generations=self._generations,
            seed=int(rng.integers(2**32)),
        )
        values, broken = score(last)
        best = last[survivors(values, len(last), broken)]
        return list(dict.fromkeys(self._genes.architectures(self._genes.canonical(best))))


@dataclass(frozen=True)
class _Model:
    """The better of ridge and of support vectors with a radial kernel, fitted to standardised labels."""

    regressor: Any
    centre: float
    scale: float

    @classmethod
    def fit(cls, rows: Array, labels: Array, rng: np.random.Generator) -> _Model:
        centre, scale = float(labels.mean()), float(labels.std()) or 1.0
        scaled = (labels - centre) / scale
        fold = rng.permutation(np.arange(len(labels)) % _FOLDS)
        candidates = [Ridge(penalty) for penalty in PENALTIES]
        candidates += [SVR(kernel="rbf", gamma="auto", epsilon=0.0, C=cost) for cost in COSTS]
        errors = np.zeros(len(candidates))
        with config_context(assume_finite=True, skip_parameter_validation=True):
            for k in range(_FOLDS):
                training, validation = fold != k, fold == k
                for i, candidate in enumerate(candidates):
                    expected = candidate.fit(rows[training], scaled[training]).predict(rows[validation])
                    errors[i] += np.abs(expected - scaled[validation]).sum()
            return cls(candidates[int(np.argmin(errors))].fit(rows, scaled), centre, scale)

    def predict(self, rows: Array) -> Array:
        with config_context(assume_finite=True, skip_parameter_validation=True):
            predicted: Array = self.centre + self.scale * self.regressor.predict(rows)
        return predicted
