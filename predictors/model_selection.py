"""A weighted mean of models, by the errors of their held-out predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from predictors.base import Array, Prediction, Predictor, query_array, training_arrays
from predictors.candidate_models import Candidate, candidates
from predictors.feature_columns import FeatureLayout
from predictors.folds import Folds, make_folds, rows_outside
from predictors.intervals import Spread, widths_help
from predictors.kernel_process import KernelProcess
from predictors.label_scales import Bounds, LabelScale, errors_of
from predictors.quality import Quality, Scores
from predictors.threads import one_thread

SAMPLES = 20
STEPS = 5
MIN_WEIGHT = 0.02
"""Smaller weights are dropped: such a model costs its prediction and has no effect."""
LEAST_WIDTH = 1e-12
"""Lower bound, because errors are divided by widths; those of a noiseless process may be 0."""


def errors_by_model(labels: Array, means: Array, *, ratio: bool) -> Array:
    """Signed errors of predictions (..., n), relative to the labels (n,) where `ratio`."""
    return means / labels - 1.0 if ratio else means - labels


def ensemble_weights(labels: Array, means: Array, rng: np.random.Generator, *, ratio: bool) -> Array:
    """Weights (k,), at least 0 and summing to 1, of models by their held-out predictions (k, n).

    Greedy selection with replacement (Caruana et al. 2004, "Ensemble selection from libraries of models"), of `STEPS`
    models: it starts with the best one and adds the one that reduces the mean absolute error of the mean most; the first
    of equals wins. The weights are averages over `SAMPLES` bootstrap samples of the rows. Departure from the paper: it
    draws models, not rows; here a model's weight is the share of samples in which it is selected.
    """
    errors = errors_by_model(labels, means, ratio=ratio)
    counts, n = np.zeros(len(means)), len(labels)
    for _ in range(SAMPLES):
        drawn = errors[:, rng.integers(0, n, n)]
        total = np.zeros(n)
        for _ in range(STEPS):
            # The number of models in the mean is the same for all: sums compare as means do.
            chosen = int(np.argmin(np.abs(total + drawn).mean(axis=1)))
            counts[chosen] += 1.0
            total += drawn[chosen]
    weights = counts / counts.sum()
    weights[weights < MIN_WEIGHT] = 0.0
    return np.asarray(weights / weights.sum())


def cross_combined(labels: Array, means: Array, folds: Folds, rng: np.random.Generator, *, ratio: bool) -> Array:
    """Weighted means (n,) of held-out predictions (k, n), the rows of each fold by the weights of the others.

    Weights overfit to the errors by which they are chosen; these means are an honest estimate of the combination.
    """
    out = np.empty_like(labels)
    for fold in folds:
        training = rows_outside(fold, len(labels))
        out[fold] = ensemble_weights(labels[training], means[:, training], rng, ratio=ratio) @ means[:, fold]
    return out


def widths_of(prediction: Prediction, bounds: Bounds, *, ratio: bool) -> Array:
    """Deviations of predictions (m,) in the terms of errors (see `errors_of`)."""
    return np.maximum(prediction.std / bounds.clip(prediction.mean) if ratio else prediction.std, LEAST_WIDTH)


class ProcessWidths:
    """The widths of a fitted process, on average at least those that the spread was calibrated with.

    Held-out rows were predicted from four fifths of the rows. If the process is near the rank of its features, the last
    fifth reduces its deviations more than its errors, and its intervals would be too narrow: they are multiplied by the
    ratio of its held-out to its leave-one-out deviations.

    Args:
        process: A process that is fitted on all rows.
        held_out: Widths (n,) of the training rows, held out.
        mean: held-out predictions (n,) of the process.
    """

    def __init__(self, process: KernelProcess, held_out: Array, mean: Array, bounds: Bounds, *, ratio: bool) -> None:
        self._process, self._bounds, self._ratio = process, bounds, ratio
        left_out = process.left_out_std(mean)
        if ratio:
            left_out = left_out / bounds.clip(mean)
        self._stretch = max(1.0, float(held_out.mean() / max(left_out.mean(), LEAST_WIDTH)))

    def __call__(self, features: Array) -> Array:
        """Widths (m,)."""
        return self._stretch * widths_of(self._process.predict(features), self._bounds, ratio=self._ratio)


MINIMUM_ROWS = 6
SHOWN = 4
"""Models named in a description; the others have weights of a few per cent."""
FINE_FOLDS = 20
"""Number of folds for models with closed forms. If labels are sums over layers, the last rows decide whether all terms are
identified."""


@dataclass(frozen=True)
class _Tried:
    """A fitted candidate with its held-out predictions: mean within bounds, deviation in the terms of errors."""

    name: str
    model: Predictor = field(repr=False)
    mean: Array = field(repr=False)
    widths: Array = field(repr=False)


class AutoPredictor:
    """A weighted mean of the models of least held-out error.

    Models (see `candidates`): the mean; affine functions of the MACs and of an estimate; ridge on aggregates,
    genes or all columns; Gaussian processes; both of these on the errors of the estimate; LightGBM. Positive
    labels are fitted in plain, relative and logarithmic terms, others also by their distance from the best. The interval
    is conformal on the held-out errors, with the width of each row from the first Gaussian process that describes them
    better than a constant.

    Args:
        layout: the meaning of the columns.
        positive: labels are above zero and errors count as ratios (latency); else as differences (accuracy).
        seed: Seed of the folds and of LightGBM; equal data and seed give equal predictions.

    Attributes:
        weights: Weights by name, of each model that the mean has; set by `fit`.
    """

    minimum_rows = MINIMUM_ROWS

    def __init__(self, *, layout: FeatureLayout, positive: bool, seed: int) -> None:
        self.layout, self.positive, self.seed = layout, positive, seed
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,); sets `quality`.

        Args:
            features: Rows of the measured networks, (n, d), with the columns of the layout; finite, at least `MINIMUM_ROWS`.
            labels: Measured value of each row, (n,); finite, and above 0 where `positive`.

        Raises:
            PredictorError: as `training_arrays` does, or the layout does not fit the columns.
        """
        x, y = training_arrays(features, labels, minimum=MINIMUM_ROWS, positive=self.positive)
        self.layout.check(x.shape[1])
        self._bounds = Bounds.of(y, ratio=self.positive)
        with one_thread():
            self._fit(x, y)
        self._n_columns = x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d).

        Args:
            features: Rows to predict, (m, d), with the columns of the fit; finite. No rows give empty predictions.

        Raises:
            PredictorError: as `query_array` does.
        """
        x = query_array(features, self._n_columns)
        if not len(x):
            return Prediction(np.empty(0), np.empty(0), np.empty(0), np.empty(0))
        with one_thread():
            means = np.stack([self._bounds.clip(model.predict(x).mean) for model in self._models])
            mean = self._weights @ means
            widths = None if self._widths is None else self._widths(x)
        prediction = self._spread.around(mean, ratio=self.positive, widths=widths)
        return Prediction(
            prediction.mean, prediction.std, self._bounds.clip(prediction.low), self._bounds.clip(prediction.high)
        )

    def _fit(self, x: Array, y: Array) -> None:
        rng = np.random.default_rng(self.seed)
        coarse, fine = make_folds(y, rng), make_folds(y, rng, FINE_FOLDS)
        offered = candidates(self.layout, x.shape[1], len(y), positive=self.positive, seed=self.seed)
        tried = [self._try(candidate, x, y, fine=fine, coarse=coarse) for candidate in offered]
        means = np.stack([t.mean for t in tried])
        weights = ensemble_weights(y, means, rng, ratio=self.positive)
        self._models = [t.model for t, weight in zip(tried, weights, strict=True) if weight > 0]
        self._weights = weights[weights > 0]
        self.weights = {t.name: float(weight) for t, weight in zip(tried, weights, strict=True) if weight > 0}

        mean = cross_combined(y, means, coarse, rng, ratio=self.positive)
        errors = errors_of(y, mean, ratio=self.positive)
        self._widths, widths = self._choose_widths(tried, errors)
        self._spread = Spread.of(errors, widths).widened(len(y))
        self.quality = self._report(tried, weights, y, mean, coarse, widths)

    def _try(self, candidate: Candidate, x: Array, y: Array, *, fine: Folds, coarse: Folds) -> _Tried:
        model, prediction = candidate.tried(x, y, fine=fine, coarse=coarse)
        mean = self._bounds.clip(prediction.mean)
        return _Tried(candidate.name, model, mean, widths_of(prediction, self._bounds, ratio=self.positive))

    def _choose_widths(self, tried: list[_Tried], errors: Array) -> tuple[ProcessWidths | None, Array | None]:
        """The widths by features, and held out (n,), of the first process that describes the errors better than a constant."""
        for each in tried:
            if isinstance(each.model, KernelProcess) and widths_help(errors, each.widths):
                process_widths = ProcessWidths(each.model, each.widths, each.mean, self._bounds, ratio=self.positive)
                return process_widths, each.widths
        return None, None

    def _report(
        self, tried: list[_Tried], weights: Array, y: Array, mean: Array, folds: Folds, widths: Array | None
    ) -> Quality:
        by_name = {t.name: t.mean for t in tried}
        ridge = by_name[f"ridge ({LabelScale.RELATIVE if self.positive else LabelScale.PLAIN})"]
        held_out_scores = partial(Scores.held_out, y, folds=folds, ratio=self.positive)
        return Quality(
            model=_description([t.name for t in tried], weights),
            n=len(y),
            scores=held_out_scores(mean, widths=widths),
            mean=held_out_scores(by_name["mean"]),
            ridge=held_out_scores(ridge),
        )


def _description(names: list[str], weights: Array) -> str:
    """The heaviest parts of the mean: ``60 % ridge (log), 20 % LightGBM, 10 % mean, 2 others``."""
    order = np.argsort(-weights, kind="stable")
    parts = [f"{weights[i]:.0%} {names[i]}".replace("%", " %") for i in order if weights[i] > 0]
    hidden = len(parts) - SHOWN
    remainder = [f"{hidden} other{'' if hidden == 1 else 's'}"] if hidden > 0 else []
    return names[int(order[0])] if len(parts) == 1 else ", ".join([*parts[:SHOWN], *remainder])
