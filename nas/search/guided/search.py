"""Predictor-guided search: small batches that promise the most hypervolume under what models expect."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.problem.objectives import Constraint, Evaluation, Objective, minimised
from nas.problem.pareto import MARGIN, non_dominated
from nas.search.genes import GeneRows
from nas.search.guided.acquisition import pick_greedily
from nas.search.guided.candidates import Effort, candidates, relatives
from nas.search.guided.goals import Goals
from nas.search.guided.models import AutoKind, FeatureSource, Figures, GeneKind, ModelKind, ObjectiveModel, Outlook
from nas.search.guided.start import spread_out
from nas.search.history import History
from nas.search.ranking import first_front, survivors
from nas.search.sampling import draw_unknown
from nas.search.warm_start import Earlier, Expected
from predictors.threads import one_thread
from supernets.space import Architecture, SearchSpace

N_DRAWS = 1
OPTIMISM = 0.3
"""Each candidate is judged by one draw of its figures, 0.3 of a normal deviation on the good side. On NAS-Bench-201
(CIFAR-100 against three latencies, 8 seeds, volume missing after 100, 150 and 200 evaluations) 0.7 and 1, the expected gain
(unbiased draws or quantiles), draws that are correlated as the process says, and deviations from calibration were worse."""
EVOLVED = 0.5
"""Share of a batch that comes from the evolution over expected figures; the rest are relatives of what was measured."""
INITIAL = 20
PARENTS = 30
"""Best networks measured that relatives are bred from."""
WARM_INITIAL = 10
"""With at least `INITIAL` earlier figures. On NAS-Bench-201 (CIFAR-100 against 1080ti_1 after 100 evaluations on raspi4; 5
seeds, batches of 8) a median of 16, 20 and 165 evaluations led to 90, 95 and 99 %; 32, 44 and more than 260 without them."""
_LEAST_MODELLED = 6


class GuidedSearch:
    """Models are fitted to everything told; an inner evolution over them and relatives of the best measured are proposed;
    greedy picks by the hypervolume that they promise are asked for.

    Constraints come first: what breaks one adds nothing to a front, and while nothing measured keeps them all, what is
    expected to break them least is asked for.

    An ask is a function of the seed and of what was told (and of what was asked and not told yet), so that nothing of
    it needs to be kept: a resumed search fits once and goes on.

    Args:
        seed: at least 0.
        features: analytic features by the name of each figure that has some; the Gaussian process over genes
            models the others alone.
        exact: figures in their natural sign, (n,), by the name of each one that is computed, not modelled.
        reference: bounds the volume that picks are judged by, minimised, (m,); None takes, at each ask, the nadir of a front,
            moved out by 10 % of its range: that of what was measured, or of this and what is expected, whichever is further.
        initial: how many successful evaluations, those told before the first ask included, come before the models.
        kinds: models to choose from for each figure; None takes the two above.
        effort: how many candidates are looked at.
        constraints: on objectives or on further figures, which every evaluation then has too.
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
        constraints: Sequence[Constraint] = (),
    ) -> None:
        self._space, self._seed, self._goals = space, seed, Goals(objectives, constraints)
        self._history = History(objectives, constraints)
        figures = self._goals.figures
        self._exact = dict(exact or {})
        stray = sorted(set(self._exact) - {f.name for f in figures})
        if stray or not objectives:
            names = [f.name for f in figures]
            raise ValueError(f"exact figures for {stray}, which are not searched for; these are {names}")
        genes = GeneKind(space, seed=seed)
        sources = features or {}
        analytic = {name: AutoKind(source, seed, tune_seconds) for name, source in sources.items()}
        self._kinds: dict[str, Sequence[ModelKind]] = {
            f.name: [genes, *(analytic[name] for name in [f.name] if name in analytic)] if kinds is None else kinds
            for f in figures
        }
        self._least_whole = max(min(kind.minimum_rows for kind in kinds) for kinds in self._kinds.values())
        if len(earlier) >= initial:
            initial = min(initial, WARM_INITIAL)
        self._reference, self._initial, self._effort = reference, max(initial, _LEAST_MODELLED), effort or Effort()
        self._genes = GeneRows(space)
        self._earlier = Earlier(earlier, figures, constraints)
        self._told: dict[Architecture, NDArray[np.float64]] = {}
        self._fits: dict[str, dict[str, Any]] = {}
        self._fitted: tuple[int, dict[str, ObjectiveModel], Expected] | None = None

    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        rng = np.random.default_rng([self._seed, len(self._told)])
        self._fits = {}
        if not self._is_ready():
            asked = spread_out(self._space, self._history.known, list(self._told), n, rng)
        else:
            with one_thread():
                asked = self._ask_models(n, rng)
        self._history.known.update(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Takes figures into the history; what lacks some teaches the others, and is never asked for again."""
        for evaluation, row in zip(evaluations, minimised(evaluations, self._goals.figures), strict=True):
            self._told[evaluation.architecture] = row
        self._history.add(evaluations)

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """By the name of each modelled objective; empty when the last ask came before the models."""
        return self._fits

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        """Returns `asked` and knows it; nothing is computed."""
        self._history.known.update(asked)
        self._fits = {}
        return list(asked)

    def _is_ready(self) -> bool:
        """Whether there is enough to model: what a staged evaluation left teaches some of its figures, too."""
        n_whole = sum(bool(np.isfinite(row).all()) for row in self._told.values())
        return len(self._history) >= self._initial and n_whole >= self._least_whole

    def _ask_models(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        models, outlook = self._models()
        goals, told = self._goals, self._history.architectures
        genes, (objectives, broken) = self._genes.of(told), self._history.figures(told)
        first = first_front(objectives, broken)
        front = np.where(broken[first, None] > 0, np.inf, objectives[first])
        before = [a for a in self._earlier.promising if a not in self._history.known]

        def score(architectures: list[Architecture]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            expected = outlook.figures(architectures, 0.0)
            return goals.objectives(expected), goals.violations(expected)

        near = np.vstack([genes[first], self._genes.of(before)])
        evolved = candidates(self._genes, self._history.known, near, score, rng, self._effort)
        evolved = list(dict.fromkeys([*evolved, *before]))
        parents = genes[survivors(objectives, PARENTS, broken)]
        bred = relatives(self._genes, self._history.known, parents, self._effort.relatives, rng)

        expected, breaks = score(evolved)
        expected = expected[(breaks <= 0) & np.isfinite(expected).all(axis=1)]
        # What breaks limits may be better than all that keeps them, and tells of the front where nothing else does.
        measured = objectives[first & (broken <= 0)] if len(expected) else objectives[first]
        bounds = self._bounds(measured, expected)
        picking = _Picking(goals, outlook, front, bounds, rng)
        asked = picking.pick(evolved, n_evolved(n, rng), without=())
        asked += picking.pick(bred, n - len(asked), without=asked)
        asked += picking.pick(evolved, n - len(asked), without=asked)
        asked += picking.nearest([*bred, *evolved], n - len(asked), without=asked)
        asked += draw_unknown(self._space, {*self._history.known, *asked}, n - len(asked), rng)
        self._keep_fits(models, asked)
        return asked

    def hopes(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Two deviations better than expected, by the models of the last ask; nothing is known before there are some."""
        if not self._is_ready():
            return np.full((len(architectures), self._goals.n_objectives), -np.inf)
        with one_thread():
            return self._goals.objectives(self._models()[1].figures(architectures, -2.0))

    def _models(self) -> tuple[dict[str, ObjectiveModel], Expected]:
        """Models of what was told, and what they expect; fitted once for each history."""
        if self._fitted is None or self._fitted[0] != len(self._told):
            models = {
                o.name: ObjectiveModel.choose(self._kinds[o.name], o, *self._rows(j))
                for j, o in enumerate(self._goals.figures)
                if o.name not in self._exact
            }
            outlook = self._earlier.known_to(Outlook(self._goals.figures, models, self._exact))
            self._fitted = len(self._told), models, outlook
        return self._fitted[1:]

    def _rows(self, j: int) -> tuple[list[Architecture], NDArray[np.float64]]:
        """What is known of one objective, earlier runs' figures first: architectures, and natural figures (n,)."""
        told = {a: float(row[j]) for a, row in self._told.items() if np.isfinite(row[j])}
        before, figures = self._earlier.column(j, told)
        return [*before, *told], self._goals.figures[j].sign * np.concatenate([figures, list(told.values())])

    def _bounds(self, measured: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the volume: how far the front reaches that is measured (n, m), or that of this and what is expected (k, m).

        By the measured front alone, a network that is larger and better than all of it would promise nothing, and the search
        would crawl towards the ends of the front a tenth at a time: on NAS-Bench-201 it needed an eighth to a third more
        evaluations, and some runs stayed where they were for 100 of them. But neither may what is expected to be better than
        all of the measured front draw the bounds in, to where nothing promises any more.
        """
        if self._reference is not None:
            return self._reference
        bounds = _reach(np.vstack([measured, expected]))
        return np.maximum(bounds, _reach(measured)) if len(measured) else bounds

    def _keep_fits(self, models: Mapping[str, ObjectiveModel], asked: Sequence[Architecture]) -> None:
        for name, model in models.items():
            found = model.predictor.predict(model.inputs(asked))
            pairs = np.column_stack([found.mean, found.std]).tolist()
            self._fits[name] = {
                "quality": model.predictor.quality.to_json(),
                "predictions": {a.key: pair for a, pair in zip(asked, pairs, strict=True)},
            }


def _reach(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nadir of the front of values (n, m), moved out."""
    front = values[non_dominated(values)]
    nadir = front.max(axis=0)
    reach: NDArray[np.float64] = nadir + MARGIN * (nadir - front.min(axis=0))
    return reach


def n_evolved(n: int, rng: np.random.Generator) -> int:
    """How many of a batch of `n` come from the evolution: `EVOLVED` of it; what is left over falls to it by chance."""
    whole, rest = divmod(EVOLVED * n, 1.0)
    return int(whole) + int(rest > 0 and rng.random() < rest)


class _Picking:
    """Greedy picks for one ask: each counts on what those before it are expected to add.

    Args:
        front: objectives of the best networks measured; infinite rows, which are not feasible, count for nothing.
        bounds: of the volume.
    """

    def __init__(
        self,
        goals: Goals,
        outlook: Expected,
        front: NDArray[np.float64],
        bounds: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        self._goals, self._outlook, self._front, self._bounds, self._rng = goals, outlook, front, bounds, rng

    def pick(self, pool: Sequence[Architecture], n: int, *, without: Collection[Architecture]) -> list[Architecture]:
        """Up to `n` that promise to add the most; fewer where the others promise nothing."""
        pool = [a for a in pool if a not in without]
        if not pool or n < 1:
            return []
        z = -OPTIMISM * np.abs(self._rng.standard_normal((N_DRAWS, len(pool), len(self._goals.figures))))
        draws = self._goals.feasible(self._outlook.figures(pool, z))
        believed = self._goals.feasible(self._outlook.figures(pool, 0.0))
        picks = pick_greedily(draws, believed, self._front, self._bounds, n, self._rng)
        self._front = np.vstack([self._front, believed[picks]])
        return [pool[i] for i in picks]

    def nearest(self, pool: Sequence[Architecture], n: int, *, without: Collection[Architecture]) -> list[Architecture]:
        """The first `n` of those that are expected to break the constraints least: where nothing promises any volume."""
        pool = [a for a in dict.fromkeys(pool) if a not in without]
        if not pool or n < 1:
            return []
        broken = self._goals.violations(self._outlook.figures(pool, 0.0))
        return [pool[i] for i in np.argsort(broken, kind="stable")[:n]]
