"""What a guided search believes about architectures: a model for each objective, chosen by cross-validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nas.problem.objectives import Goal, Objective
from nas.problem.pareto import Array
from nas.search.guided.cells import wirings
from nas.search.guided.gene_features import GeneFeatures
from nas.search.guided.surrogate import HammingProcess
from predictors.base import Predictor
from predictors.quality import Quality
from predictors.selection import AutoPredictor, FeatureLayout
from predictors.subsample import evenly_spaced
from supernets.space import Architecture, SearchSpace

Inputs = Callable[[Sequence[Architecture]], Array]
"""Architectures to feature rows, (n, d)."""
Figures = Callable[[Sequence[Architecture]], Array]
"""Architectures to one figure of each, (n,), in its natural sign."""


class ScoredPredictor(Predictor, Protocol):
    """A predictor that cross-validates itself as it is fitted."""

    @property
    def quality(self) -> Quality:
        """Of the last fit."""
        ...


class ModelKind(Protocol):
    """One way of modelling figures of architectures."""

    @property
    def minimum_rows(self) -> int:
        """It is not tried with fewer."""
        ...

    def fit(self, architectures: Sequence[Architecture], labels: Array, *, ratio: bool) -> ObjectiveModel:
        """Learns what figures architectures have.

        Args:
            architectures: at least `minimum_rows`.
            labels: natural figures (n,), all finite.
            ratio: whether errors count as ratios, as those of positive costs do.
        """
        ...


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Analytic features for `AutoPredictor`, and what their columns are."""

    rows: Inputs
    layout: FeatureLayout


CELL_ROWS = 80
"""From which a space is judged to be a cell; each of some ten views costs a short fit."""
CELL_MARGIN = 2.0
"""Nats by which cells must explain labels better than plain genes do: additive labels of 20 networks prefer some cell by less
than 1 now and then; NAS-Bench-201's accuracies prefer theirs by 3 to 33 after 40 networks, by 14 to 62 after 60."""


class GeneKind:
    """`HammingProcess` on genes and on how often their options occur, see `GeneFeatures`.

    Where the choices of a space may be the edges of a cell (see `wirings`), the labels decide whether they are: an accuracy
    does not depend on edges that lie on no path, and a process that is told which those are explains it far better. On
    NAS-Bench-201 accuracies single out the right one of ten wirings from 30 to 60 networks on. So do latencies of a
    runtime that leaves dead operations out; those of other runtimes keep the plain view.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._plain, self._seed = GeneFeatures(space), seed
        self._wired = [GeneFeatures(space, wiring) for wiring in wirings(space)]

    @property
    def minimum_rows(self) -> int:
        """See `ModelKind`."""
        return HammingProcess.minimum_rows

    def fit(self, architectures: Sequence[Architecture], labels: Array, *, ratio: bool) -> ObjectiveModel:
        """See `ModelKind`."""
        some = evenly_spaced(len(labels), CELL_ROWS)
        view = self._view([architectures[i] for i in some], labels[some], ratio=ratio)
        process = self._process(view, ratio=ratio)
        process.fit(view.rows(architectures), labels)
        return ObjectiveModel(view.rows, process, ratio)

    def _view(self, architectures: Sequence[Architecture], labels: Array, *, ratio: bool) -> GeneFeatures:
        """The one of greatest posterior density, where wirings share what they are believed beforehand."""
        # Labels that are all the same say nothing: there, the view that merges most networks would win.
        if not self._wired or np.ptp(labels) == 0:
            return self._plain
        cost = math.log(len(self._wired)) + CELL_MARGIN
        explained = [
            self._process(view, ratio=ratio).evidence(view.rows(architectures), labels)
            for view in (self._plain, *self._wired)
        ]
        best = int(np.argmax(explained[1:]))
        return self._wired[best] if explained[1 + best] - cost > explained[0] else self._plain

    def _process(self, view: GeneFeatures, *, ratio: bool) -> HammingProcess:
        return HammingProcess(
            view.groups,
            trend=view.counts,
            goal=Goal.MINIMIZE if ratio else Goal.MAXIMIZE,
            seed=self._seed,
            name="Gaussian process over genes" if view.wiring is None else "Gaussian process over a cell's live edges",
        )


@dataclass(frozen=True, slots=True)
class AutoKind:
    """`AutoPredictor` on analytic features; at each fit so many seconds are spent on its hyper-parameters."""

    source: FeatureSource
    seed: int
    tune_seconds: float = 0.0

    @property
    def minimum_rows(self) -> int:
        """See `ModelKind`."""
        return AutoPredictor.minimum_rows

    def fit(self, architectures: Sequence[Architecture], labels: Array, *, ratio: bool) -> ObjectiveModel:
        """See `ModelKind`."""
        predictor = AutoPredictor(
            layout=self.source.layout, positive=ratio, seed=self.seed, tune_seconds=self.tune_seconds
        )
        predictor.fit(self.source.rows(architectures), labels)
        return ObjectiveModel(self.source.rows, predictor, ratio)


@dataclass(frozen=True, slots=True)
class ObjectiveModel:
    """A fitted model of one objective."""

    inputs: Inputs
    predictor: ScoredPredictor
    ratio: bool

    @staticmethod
    def choose(
        kinds: Sequence[ModelKind], objective: Objective, architectures: Sequence[Architecture], labels: Array
    ) -> ObjectiveModel:
        """The kind of least cross-validated error, fitted on natural figures (n,), all finite."""
        ratio = objective.goal is Goal.MINIMIZE and bool((labels > 0).all())
        fitted = [kind.fit(architectures, labels, ratio=ratio) for kind in kinds if len(labels) >= kind.minimum_rows]
        return min(fitted, key=lambda model: model.loss)

    @property
    def loss(self) -> float:
        """Cross-validated error: relative where errors count as ratios."""
        scores = self.predictor.quality.scores
        return scores.mape if self.ratio else scores.rmse

    def latent(self, architectures: Sequence[Architecture]) -> tuple[Array, Array]:
        """Mean and deviation (n,) in the terms in which the figure is about normal; `figure` leads back."""
        rows = self.inputs(architectures)
        if isinstance(self.predictor, HammingProcess):
            return self.predictor.latent(rows)
        found = self.predictor.predict(rows)
        if not self.ratio:
            return found.mean, found.std
        mean = np.maximum(found.mean, np.finfo(np.float64).tiny)
        return np.log(mean), found.std / mean

    def figure(self, latent: Array) -> Array:
        """Natural figures of latent ones, of any shape."""
        if isinstance(self.predictor, HammingProcess):
            return self.predictor.figure(latent)
        return np.exp(np.clip(latent, -700, 700)) if self.ratio else latent


class Outlook:
    """What is expected of architectures in all objectives, exact or modelled; each architecture is predicted once."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        models: Mapping[str, ObjectiveModel],
        exact: Mapping[str, Inputs],
    ) -> None:
        self._objectives, self._models, self._exact = objectives, models, exact
        self._known: dict[Architecture, tuple[Array, Array]] = {}

    def figures(self, architectures: Sequence[Architecture], z: Array | float) -> Array:
        """Minimised figures `z` deviations from the expected ones; negative is better.

        Args:
            z: a number, or an array of shape (..., n, m).

        Returns:
            (..., n, m); exact figures do not depend on `z`.
        """
        mean, std = self._latent(architectures)
        z = np.broadcast_to(np.asarray(z, dtype=np.float64), np.broadcast_shapes(np.shape(z), mean.shape))
        out = np.empty(z.shape)
        for j, objective in enumerate(self._objectives):
            latent = mean[:, j] + objective.sign * z[..., j] * std[:, j]
            exact = objective.name in self._exact
            out[..., j] = objective.sign * (latent if exact else self._models[objective.name].figure(latent))
        return out

    def _latent(self, architectures: Sequence[Architecture]) -> tuple[Array, Array]:
        new = [a for a in dict.fromkeys(architectures) if a not in self._known]
        if new:
            mean, std = np.empty((len(new), len(self._objectives))), np.zeros((len(new), len(self._objectives)))
            for j, objective in enumerate(self._objectives):
                if objective.name in self._exact:
                    mean[:, j] = self._exact[objective.name](new)
                else:
                    mean[:, j], std[:, j] = self._models[objective.name].latent(new)
            self._known.update(zip(new, zip(mean, std, strict=True), strict=True))
        found = [self._known[a] for a in architectures]
        shape = (len(found), len(self._objectives))
        return np.array([m for m, _ in found]).reshape(shape), np.array([s for _, s in found]).reshape(shape)
