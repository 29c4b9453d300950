"""Models of each metric for a guided search, chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.search.base import Features, FeatureSource, Values
from nas.search.genes import GeneRows
from nas.search.problem.objectives import Goal, Objective
from nas.search.problem.pareto import Array
from nas.search.warm_start import PriorObservations
from predictors.base import Predictor
from predictors.baselines import ConformalPredictor
from predictors.feature_columns import FeatureLayout
from predictors.folds import make_folds
from predictors.kernel_process import KernelProcess
from predictors.label_scales import LabelScale
from predictors.model_selection import AutoPredictor
from predictors.quality import Quality, Scores
from predictors.threads import one_thread
from supernets.space import Architecture, SearchSpace

UNCERTAIN = 0.06
"""Labels whose standard error is a larger share of them are left out of models that know no errors of single labels."""


class GeneFeatures:
    """Feature rows of a space's architectures, without knowledge of what the space describes.

    Columns, of genes in the order of `GeneRows`: one-hot genes; then each choice of numbers on its scale; then, for every set
    of choices with equal options (the kernels of all layers, say), the share of them that has each option. The counts
    transfer between genes what a model of genes alone must learn for each of them.

    Attributes:
        groups: the weight of each column: one for a choice's one-hot columns, one of its own for every other column.
        options: the weight of each one-hot column's option, one for all choices with equal options; -1 for all other columns.
        counts: the numbers of the columns of counts.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._genes = GeneRows(space)
        space = self._genes.space
        numeric = [i for i, c in enumerate(space.choices) if not any(isinstance(o, str) for o in c.options)]
        n_one_hot = int(space.levels.sum())
        self._columns = np.concatenate([np.arange(n_one_hot), n_one_hot + np.array(numeric, dtype=np.int64)])
        self._scales = n_one_hot + np.arange(len(numeric))
        self._kinds = space.like_choices
        n_counts = sum(int(space.levels[members[0]]) for members in self._kinds)
        single_groups = len(space) + np.arange(len(numeric) + n_counts)
        self.groups: NDArray[np.int64] = np.concatenate([np.repeat(np.arange(len(space)), space.levels), single_groups])
        self.options: NDArray[np.int64] = np.concatenate([space.option_numbers(), np.full(len(single_groups), -1)])
        self.counts: NDArray[np.int64] = len(self._columns) + np.arange(n_counts)

    @property
    def source(self) -> FeatureSource:
        """These rows for predictors on analytic features: the counts are the aggregates; without any, choices of numbers."""
        groups, options = tuple(self.groups.tolist()), tuple(self.options.tolist())
        aggregates = self.counts.tolist() or self._scales.tolist() or [0]
        layout = FeatureLayout(macs=None, aggregates=tuple(aggregates), groups=groups, options=options)
        return FeatureSource(self.rows, layout)

    def rows(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Features, (n, d). Counts are divided by the square root of their maximum, so that they spread like genes."""
        genes, space = self._genes.rows(architectures), self._genes.space
        counts = [
            (genes[:, members] == level).sum(axis=1) / np.sqrt(len(members))
            for members in self._kinds
            for level in range(int(space.levels[members[0]]))
        ]
        encoded = space.encode([Architecture(tuple(row)) for row in genes.tolist()])
        return np.column_stack([encoded[:, self._columns], *counts])


class GeneKind:
    """A Gaussian process on genes and on the counts of their options, see `GeneFeatures`; counts have a linear trend as well.

    Values that count as ratios are learnt by their logarithms, others, nearly all of which are scores to maximise, by
    `best_warp`. On 15 columns of published tables, with 80 random rows, errors are a sixth smaller than those of a rougher
    process, exp(-r), without weights of options, and a search on NAS-Bench-201 needs fewer evaluations, on average, on each
    of five latencies.
    """

    minimum_rows = 4
    """Without a fold there are three, which the baselines of the quality need."""

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._features, self._seed = GeneFeatures(space), seed

    def fit(
        self, architectures: Sequence[Architecture], labels: Array, *, ratio: bool, errors: Array | None = None
    ) -> MetricModel:
        """A model fitted to labels in natural sign (n,), all finite; `ratio`: errors count as ratios, as of positive costs.

        Args:
            errors: known standard errors of the labels as shares of them, (n,), in addition to the noise that all have; used
                for ratios only.
        """
        rows, process = self.features(architectures), self.process(ratio=ratio)
        with one_thread():
            process.fit(rows, labels, errors if ratio else None)
            return MetricModel(self.features, process, self._quality(process, rows, labels, ratio=ratio), ratio)

    def features(self, architectures: Sequence[Architecture]) -> Array:
        """See `GeneFeatures.rows`."""
        return self._features.rows(architectures)

    def process(self, *, ratio: bool) -> KernelProcess:
        """Not yet fitted."""
        genes = self._features
        return KernelProcess(
            scale=LabelScale.LOG if ratio else LabelScale.BEST,
            lines=[genes.counts.tolist()] if len(genes.counts) else [],
            smooth=range(len(genes.groups)),
            groups=genes.groups.tolist(),
            options=genes.options.tolist(),
            standardise=False,
        )

    def _quality(self, process: KernelProcess, x: Array, y: Array, *, ratio: bool) -> Quality:
        folds = make_folds(y, np.random.default_rng(self._seed))
        predicted = process.held_out(folds)
        scores = Scores.of(y, predicted.mean, predicted.low, predicted.high)
        return Quality.cross_validated("Gaussian process over genes", x, y, scores, folds, ratio=ratio)


@dataclass(frozen=True, slots=True)
class AutoKind:
    """`AutoPredictor` on analytic features."""

    source: FeatureSource
    seed: int
    minimum_rows: ClassVar[int] = AutoPredictor.minimum_rows

    def fit(
        self, architectures: Sequence[Architecture], labels: Array, *, ratio: bool, errors: Array | None = None
    ) -> MetricModel:
        """See `GeneKind.fit`; labels that are too uncertain are left out, while half of them are certain enough."""
        layout = self.source.layout
        predictor = AutoPredictor(layout=layout, positive=ratio, seed=self.seed)
        rows, certain = self.source.rows(architectures), np.ones(len(labels), dtype=bool)
        if errors is not None and np.mean(errors <= UNCERTAIN) >= 0.5:
            certain = errors <= UNCERTAIN
        if certain.sum() < self.minimum_rows:
            certain[:] = True
        predictor.fit(rows[certain], labels[certain])
        return MetricModel(self.source.rows, predictor, predictor.quality, ratio)


@dataclass(frozen=True, slots=True)
class PredictorKind:
    """One predictor on analytic features, with the quality and the interval of its cross-validated errors.

    Attributes:
        name: Name of the predictor.
        make: A function that makes it, unfitted, from ``layout``, ``n_columns``, ``positive`` and ``seed``.
    """

    name: str
    make: Callable[..., Predictor]
    source: FeatureSource
    seed: int
    minimum_rows: ClassVar[int] = 8

    def fit(
        self, architectures: Sequence[Architecture], labels: Array, *, ratio: bool, errors: Array | None = None
    ) -> MetricModel:
        """See `GeneKind.fit`; every label counts the same, however uncertain it is."""
        rows = self.source.rows(architectures)
        arguments = {"layout": self.source.layout, "n_columns": rows.shape[1], "positive": ratio, "seed": self.seed}
        predictor = ConformalPredictor(
            partial(self.make, **arguments),
            positive=ratio,
            seed=self.seed,
            minimum_rows=self.minimum_rows,
            closed_form=True,
        )
        predictor.fit(rows, labels)
        return MetricModel(self.source.rows, predictor, predictor.quality(self.name), ratio)


@dataclass(frozen=True, slots=True)
class MetricModel:
    """A fitted model of one metric."""

    features: Features
    predictor: KernelProcess | AutoPredictor | ConformalPredictor
    quality: Quality
    ratio: bool

    @staticmethod
    def choose(
        kinds: Sequence[ModelKind],
        metric: Objective,
        architectures: Sequence[Architecture],
        labels: Array,
        errors: Array | None = None,
    ) -> MetricModel:
        """The kind of least cross-validated error, fitted to labels in natural sign (n,), all finite; see `GeneKind.fit`."""
        ratio = metric.goal is Goal.MINIMIZE and bool((labels > 0).all())
        usable = [kind for kind in kinds if len(labels) >= kind.minimum_rows]
        fitted = [kind.fit(architectures, labels, ratio=ratio, errors=errors) for kind in usable]
        return min(fitted, key=lambda model: model.loss)

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of every model of which it is the mean, by name; they sum to 1."""
        return self.predictor.weights if isinstance(self.predictor, AutoPredictor) else {self.quality.model: 1.0}

    @property
    def loss(self) -> float:
        """Cross-validated error: relative if errors count as ratios."""
        scores = self.quality.scores
        return scores.mape if self.ratio else scores.rmse

    def latent(self, architectures: Sequence[Architecture]) -> tuple[Array, Array]:
        """Mean and deviation (n,) on a scale on which the metric is about normal; `values` is the inverse."""
        rows = self.features(architectures)
        if isinstance(self.predictor, KernelProcess):
            return self.predictor.latent(rows)
        predicted = self.predictor.predict(rows)
        if not self.ratio:
            return predicted.mean, predicted.std
        mean = np.maximum(predicted.mean, np.finfo(np.float64).tiny)
        return np.log(mean), predicted.std / mean

    def values(self, latent: Array) -> Array:
        """Values in natural sign of latent ones, of any shape."""
        if isinstance(self.predictor, KernelProcess):
            return self.predictor.values(latent)
        return np.exp(np.clip(latent, -700, 700)) if self.ratio else latent


ModelKind = GeneKind | AutoKind | PredictorKind


class SurrogateModels:
    """Values of all metrics of architectures, observed, exact or modelled; each architecture is predicted once."""

    def __init__(
        self,
        metrics: Sequence[Objective],
        models: Mapping[str, MetricModel],
        exact: Mapping[str, Values],
        prior: PriorObservations,
    ) -> None:
        self._metrics, self._models, self._exact, self._prior = metrics, models, exact, prior
        self._latents: dict[Architecture, tuple[Array, Array]] = {}

    def values(self, architectures: Sequence[Architecture], z: Array | float) -> Array:
        """Minimised values (..., n, m), `z` standard deviations, a number or (..., n, m), from the mean; negative is better.

        Observed and exact values do not depend on `z`.
        """
        mean, std = self._latent(architectures)
        z = np.broadcast_to(np.asarray(z, dtype=np.float64), np.broadcast_shapes(np.shape(z), mean.shape))
        out = np.empty(z.shape)
        for j, metric in enumerate(self._metrics):
            latent = mean[:, j] + metric.sign * z[..., j] * std[:, j]
            exact = metric.name in self._exact
            out[..., j] = metric.sign * (latent if exact else self._models[metric.name].values(latent))
        return self._prior.replaced_in(out, architectures)

    def _latent(self, architectures: Sequence[Architecture]) -> tuple[Array, Array]:
        new = [a for a in dict.fromkeys(architectures) if a not in self._latents]
        if new:
            mean, std = np.empty((len(new), len(self._metrics))), np.zeros((len(new), len(self._metrics)))
            for j, metric in enumerate(self._metrics):
                if metric.name in self._exact:
                    mean[:, j] = self._exact[metric.name](new)
                else:
                    mean[:, j], std[:, j] = self._models[metric.name].latent(new)
            self._latents.update(zip(new, zip(mean, std, strict=True), strict=True))
        pairs = [self._latents[a] for a in architectures]
        shape = (len(pairs), len(self._metrics))
        return np.array([m for m, _ in pairs]).reshape(shape), np.array([s for _, s in pairs]).reshape(shape)
