"""NSGA-II on the values of a predictor, with measured infill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nas.search.base import FeatureSource, Values
from nas.search.guided.candidates import Effort
from nas.search.guided.models import AutoKind, GeneFeatures, ModelKind, PredictorKind, SurrogateModels
from nas.search.guided.surrogate_search import INITIAL, Measured, SurrogateSearch
from nas.search.problem.objectives import Constraint, Evaluation, Objective
from nas.search.ranking import survivors
from predictors.base import Predictor
from predictors.model_selection import AutoPredictor
from supernets.space import Architecture, SearchSpace


class PredictedEvolution(SurrogateSearch):
    """NSGA-II (Deb et al. 2002) on predicted values, with measured infill (as in NSGANetV2: Lu et al. 2020, arXiv 2007.10396).

    A predictor for each metric is fitted to all evaluations; an inner NSGA-II breeds on what it predicts, and the batch is
    what NSGA-II's survival, by front and then by crowding, ranks first of its candidates among all measured architectures: new
    members of the front, and those that fill its gaps, come first.

    Departures: the arXiv paper's predictor is chosen among four, its candidates are those of the last generation alone, and a
    second search selects the batch that fills the gaps.

    Args:
        seed: A number of at least 0.
        predictor: Name of the predictor, and a function that makes it, unfitted; see `PredictorKind`.
        features: Analytic features by the name of each metric that has some; predictors of the others learn from genes and
            the counts of their options.
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
        predictor: tuple[str, Callable[..., Predictor]],
        features: Mapping[str, FeatureSource] | None = None,
        exact: Mapping[str, Values] | None = None,
        initial: int = INITIAL,
        effort: Effort | None = None,
        warm_start: Sequence[Evaluation] = (),
        constraints: Sequence[Constraint] = (),
    ) -> None:
        genes, sources = GeneFeatures(space).source, features or {}

        def kinds(metric: str) -> list[ModelKind]:
            source, (name, make) = sources.get(metric, genes), predictor
            # It has weights, and intervals of its own.
            return [AutoKind(source, seed) if make is AutoPredictor else PredictorKind(name, make, source, seed)]

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
        predicted, violated = self._predicted(surrogate, evolved)
        values, violations = np.vstack([measured.objectives, predicted]), np.append(measured.violations, violated)
        n_measured = len(measured.objectives)
        best = survivors(values, n_measured + n, violations)  # at least n of these are candidates
        return [evolved[i - n_measured] for i in best if i >= n_measured][:n]
