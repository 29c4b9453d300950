"""Predictor-guided search: small batches that promise the most hypervolume under what models expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.objectives import Evaluation, Objective, minimised
from nas.pareto import MARGIN, non_dominated
from nas.search.acquisition import pick_greedily
from nas.search.candidates import Effort, candidates
from nas.search.draws import draw_unknown
from nas.search.earlier import Earlier, Expected
from nas.search.genes import GeneRows
from nas.search.models import FeatureSource, Figures, ModelKind, ObjectiveModel, Outlook, auto_kind, hamming_kind
from nas.search.start import spread_out
from predictors.threads import one_thread
from supernets.space import Architecture, SearchSpace

N_DRAWS = 1
OPTIMISM = 0.4
"""Each candidate is judged by one draw of its figures, 0.4 of a normal deviation on the good side: on NAS-Bench-201
(CIFAR-100 against 1080ti_1, 3 to 4 seeds) the mean of 8 draws and unbiased draws (the expected gain) needed more."""
INITIAL = 20
WARM_INITIAL = 10
"""With at least `INITIAL` earlier figures. On NAS-Bench-201 (CIFAR-100 against 1080ti_1 after 100 evaluations on raspi4; 5
seeds, batches of 8) a median of 16, 20 and 165 evaluations led to 90, 95 and 99 %; 32, 44 and more than 260 without them."""
_LEAST_MODELLED = 6


class GuidedSearch:
    """Models are fitted to everything told; an inner evolution over them proposes; greedy picks are asked for.

    An ask is a function of the seed and of what was told (and of what was asked and not told yet), so that nothing of
    it needs to be kept: a resumed search fits once and goes on.

    Args:
        seed: at least 0.
        features: analytic features by the name of each objective that has some; the Gaussian process over genes
            models the others alone.
        exact: figures in their natural sign, (n,), by the name of each objective that is computed, not modelled.
        reference: bounds the volume that picks are judged by, minimised, (m,); None takes the nadir of the measured
            front, moved out by 10 % of the front's range, at each ask.
        initial: how many successful evaluations, those told before the first ask included, come before the models.
        kinds: models to choose from for each objective; None takes the two above.
        effort: how many candidates are looked at.
        earlier: figures of other runs: models learn from them, and the networks that they show to be good are candidates.
        tune_seconds: for tuning each model on analytic features, at each fit; where the time runs out before the trials, an
            ask is no longer a function of the seed and of what was told.

    Raises:
        ValueError: no objectives, or an exact figure for none of them.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int,
        features: Mapping[str, FeatureSource] | None = None,
        exact: Mapping[str, Figures] | None = None,
        reference: NDArray[np.float64] | None = None,
        initial: int = INITIAL,
        kinds: Sequence[ModelKind] | None = None,
        effort: Effort | None = None,
        tune_seconds: float = 0.0,
        earlier: Sequence[Evaluation] = (),
    ) -> None:
        self._space, self._objectives, self._seed = space, list(objectives), seed
        self._exact = dict(exact or {})
        stray = sorted(set(self._exact) - {o.name for o in self._objectives})
        if stray or not self._objectives:
            names = [o.name for o in self._objectives]
            raise ValueError(f"exact figures for {stray}, which are no objectives; the objectives are {names}")
        genes = hamming_kind(space, seed=seed)
        sources = features or {}
        analytic = {name: auto_kind(source, seed=seed, tune_seconds=tune_seconds) for name, source in sources.items()}
        self._kinds = {
            o.name: [genes, *(analytic[name] for name in [o.name] if name in analytic)]
            if kinds is None
            else list(kinds)
            for o in self._objectives
        }
        if len(earlier) >= initial:
            initial = min(initial, WARM_INITIAL)
        self._reference, self._initial, self._effort = reference, max(initial, _LEAST_MODELLED), effort or Effort()
        self._genes = GeneRows(space)
        self._earlier = Earlier(earlier, self._objectives)
        self._told: dict[Architecture, NDArray[np.float64]] = {}
        self._known: set[Architecture] = set()
        self._fits: dict[str, dict[str, Any]] = {}
        self._fitted: tuple[int, dict[str, ObjectiveModel], Expected] | None = None

    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        rng = np.random.default_rng([self._seed, len(self._told)])
        self._fits = {}
        if len(self._finite()[0]) < self._initial:
            asked = spread_out(self._space, self._known, list(self._told), n, rng)
        else:
            with one_thread():
                asked = self._ask_models(n, rng)
        self._known.update(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Takes figures into the history; those with a NaN teach nothing, but are never asked for again."""
        for evaluation, row in zip(evaluations, minimised(evaluations, self._objectives), strict=True):
            self._told[evaluation.architecture] = row
            self._known.add(evaluation.architecture)

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """By the name of each modelled objective; empty when the last ask came before the models."""
        return self._fits

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        """Returns `asked` and knows it; nothing is computed."""
        self._known.update(asked)
        self._fits = {}
        return list(asked)

    def _finite(self) -> tuple[list[Architecture], NDArray[np.float64]]:
        """What has figures in all objectives, in the order told, and the figures, minimised."""
        kept = {a: row for a, row in self._told.items() if np.isfinite(row).all()}
        return list(kept), np.array(list(kept.values())).reshape(len(kept), len(self._objectives))

    def _ask_models(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        told, values = self._finite()
        models, outlook = self._models()
        first = non_dominated(values)
        front = [a for a, keep in zip(told, first, strict=True) if keep]
        before = [a for a in self._earlier.promising if a not in self._known]
        pool = candidates(
            self._genes,
            self._known,
            self._genes.of([*front, *before]),
            lambda architectures: outlook.figures(architectures, 0.0),
            rng,
            self._effort,
        )
        pool = list(dict.fromkeys([*pool, *before]))
        z = -OPTIMISM * np.abs(rng.standard_normal((N_DRAWS, len(pool), len(self._objectives))))
        picks = pick_greedily(
            outlook.figures(pool, z), outlook.figures(pool, 0.0), values[first], self._bounds(values[first]), n, rng
        )
        asked = [pool[i] for i in picks]
        asked += draw_unknown(self._space, {*self._known, *asked}, n - len(asked), rng)
        self._keep_fits(models, asked)
        return asked

    def hopes(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Two deviations better than expected, by the models of the last ask; nothing is known before there are some."""
        if len(self._finite()[0]) < self._initial:
            return np.full((len(architectures), len(self._objectives)), -np.inf)
        with one_thread():
            return self._models()[1].figures(architectures, -2.0)

    def _models(self) -> tuple[dict[str, ObjectiveModel], Expected]:
        """Models of what was told, and what they expect; fitted once for each history."""
        if self._fitted is None or self._fitted[0] != len(self._told):
            models = {
                o.name: ObjectiveModel.choose(self._kinds[o.name], o, *self._rows(j))
                for j, o in enumerate(self._objectives)
                if o.name not in self._exact
            }
            outlook = self._earlier.known_to(Outlook(self._objectives, models, self._exact))
            self._fitted = len(self._told), models, outlook
        return self._fitted[1:]

    def _rows(self, j: int) -> tuple[list[Architecture], NDArray[np.float64]]:
        """What is known of one objective, earlier runs' figures first: architectures, and natural figures (n,)."""
        told = {a: float(row[j]) for a, row in self._told.items() if np.isfinite(row[j])}
        before, figures = self._earlier.column(j, told)
        return [*before, *told], self._objectives[j].sign * np.concatenate([figures, list(told.values())])

    def _bounds(self, front: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._reference is not None:
            return self._reference
        nadir = front.max(axis=0)
        bounds: NDArray[np.float64] = nadir + MARGIN * (nadir - front.min(axis=0))
        return bounds

    def _keep_fits(self, models: Mapping[str, ObjectiveModel], asked: Sequence[Architecture]) -> None:
        for name, model in models.items():
            found = model.predictor.predict(model.inputs(asked))
            pairs = np.column_stack([found.mean, found.std]).tolist()
            self._fits[name] = {
                "quality": model.predictor.quality.to_json(),
                "predictions": {a.key: pair for a, pair in zip(asked, pairs, strict=True)},
            }
