"""A predictor that chooses its base by cross-validation and corrects it by LightGBM where that helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from predictors.base import Array, Prediction, Predictor
from predictors.checks import query_array, training_arrays
from predictors.errors import PredictorError
from predictors.folds import Folds, held_out, make_folds
from predictors.gaussian_process import GaussianProcessPredictor
from predictors.intervals import Spread, widths_help
from predictors.lightgbm import ResidualBooster
from predictors.linear import ColumnLinearPredictor, RidgePredictor
from predictors.mean import MeanPredictor
from predictors.quality import Quality, Scores
from predictors.scale import Bounds, LabelScale, errors_of, shifted
from predictors.threads import one_thread
from predictors.widths import ProcessWidths, widths_of

MINIMUM_ROWS = 6
GAUSSIAN_PROCESS_ROWS = 600
"""Rows above which no Gaussian process is fitted: it costs n³, and trees have caught up by then."""


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """What the columns of a feature array are.

    Attributes:
        macs: index of the total multiply-accumulates.
        aggregates: indices of the few analytic columns (totals, sums by block, lookup sums); the rest is the encoding.
    """

    macs: int
    aggregates: tuple[int, ...]

    def check(self, n_columns: int) -> None:
        """Raises `PredictorError` where an index is no column of features with `n_columns`."""
        for index in (self.macs, *self.aggregates):
            if not 0 <= index < n_columns:
                raise PredictorError(f"the layout names column {index}; the features have columns 0 to {n_columns - 1}")
        if not self.aggregates:
            raise PredictorError("the layout names no aggregate columns; give at least the one of the MACs")


@dataclass(frozen=True)
class _Base:
    """A candidate with its held-out predictions: mean within bounds, signed errors, deviation in errors' terms."""

    name: str
    make: Callable[[], Predictor]
    mean: Array = field(repr=False)
    errors: Array = field(repr=False)
    widths: Array = field(repr=False)

    @property
    def loss(self) -> float:
        """Mean absolute held-out error: a few wild labels do not decide."""
        return float(np.mean(np.abs(self.errors)))


class AutoPredictor:
    """The base of least held-out error plus LightGBM on its held-out errors where that lowers them.

    Bases: the mean, an affine function of the MACs, ridge on the aggregates, ridge on all columns, a Gaussian process;
    for positive labels in relative and in logarithmic terms. Five folds, the same for all. The interval is conformal
    on the held-out errors, with the width of each row from the Gaussian process where that describes them better.

    Args:
        layout: what the columns are.
        positive: labels are above zero and errors count as ratios (latency); else as differences (accuracy).
        seed: of the folds and of LightGBM; equal data and seed give equal predictions.
    """

    minimum_rows = MINIMUM_ROWS

    def __init__(self, *, layout: FeatureLayout, positive: bool, seed: int) -> None:
        self.layout, self.positive, self.seed = layout, positive, seed
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,); sets `quality`.

        Raises:
            PredictorError: see `training_arrays`; fewer than 6 rows; a layout that does not fit the columns.
        """
        x, y = training_arrays(features, labels, minimum=MINIMUM_ROWS, positive=self.positive)
        self.layout.check(x.shape[1])
        self._bounds = Bounds.of(y, ratio=self.positive)
        with one_thread():
            self._fit(x, y)
        self._n_columns = x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d).

        Raises:
            PredictorError: see `query_array`.
        """
        x = query_array(features, self._n_columns)
        if not len(x):
            return Prediction(np.empty(0), np.empty(0), np.empty(0), np.empty(0))
        with one_thread():
            base = self._bounds.clip(self._base.predict(x).mean)
            mean = self._bounds.clip(shifted(base, self._booster.predict(x), ratio=self.positive))
            widths = None if self._widths is None else self._widths(x)
        found = self._spread.around(mean, ratio=self.positive, widths=widths)
        return Prediction(found.mean, found.std, self._bounds.clip(found.low), self._bounds.clip(found.high))

    def _fit(self, x: Array, y: Array) -> None:
        folds = make_folds(y, np.random.default_rng(self.seed))
        bases = [self._tried(name, make, x, y, folds) for name, make in self._candidates(x, y).items()]
        base = min(bases, key=lambda b: b.loss)  # the first of equals: the list goes from simple to rich

        self._booster = ResidualBooster(seed=self.seed)
        correction = self._booster.fit(x, base.errors, folds)
        mean = shifted(base.mean, correction, ratio=self.positive)
        errors = base.errors - correction
        self._base = base.make()
        self._base.fit(x, y)
        self._widths, widths = self._choose_widths(x, y, bases, errors)
        self._spread = Spread.of(errors, widths)
        self.quality = self._report(bases, base.name, y, mean, folds, widths)

    def _candidates(self, x: Array, y: Array) -> dict[str, Callable[[], Predictor]]:
        linear = (LabelScale.RELATIVE, LabelScale.LOG) if self.positive else (LabelScale.PLAIN,)
        smooth = (LabelScale.PLAIN, LabelScale.LOG) if self.positive else (LabelScale.PLAIN,)
        found: dict[str, Callable[[], Predictor]] = {"mean": partial(MeanPredictor, scale=linear[-1])}
        for scale in linear:
            found[f"MACs ({scale})"] = partial(ColumnLinearPredictor, self.layout.macs, scale=scale)
            found[f"ridge on aggregates ({scale})"] = partial(
                RidgePredictor, scale=scale, columns=self.layout.aggregates
            )
            found[f"ridge ({scale})"] = partial(RidgePredictor, scale=scale)
        if len(y) <= GAUSSIAN_PROCESS_ROWS:
            for scale in smooth:
                whole = GaussianProcessPredictor(scale=scale)
                whole.fit(x, y)
                found[f"Gaussian process ({scale})"] = partial(
                    GaussianProcessPredictor, scale=scale, hyperparameters=whole.hyperparameters
                )
        return found

    def _tried(self, name: str, make: Callable[[], Predictor], x: Array, y: Array, folds: Folds) -> _Base:
        found = held_out(make, x, y, folds)
        mean = self._bounds.clip(found.mean)
        return _Base(
            name,
            make,
            mean,
            errors_of(y, mean, ratio=self.positive),
            widths_of(found, self._bounds, ratio=self.positive),
        )

    def _choose_widths(
        self, x: Array, y: Array, bases: list[_Base], errors: Array
    ) -> tuple[ProcessWidths | None, Array | None]:
        """The first Gaussian process whose deviations describe the errors better than a constant, or none.

        Returns:
            The widths as a function of features, and those of the held-out rows (n,).
        """
        for tried in bases:
            process = tried.make()
            if isinstance(process, GaussianProcessPredictor) and widths_help(errors, tried.widths):
                process.fit(x, y)
                made = ProcessWidths(process, tried.widths, tried.mean, self._bounds, ratio=self.positive)
                return made, tried.widths
        return None, None

    def _report(
        self, bases: list[_Base], chosen: str, y: Array, mean: Array, folds: Folds, widths: Array | None
    ) -> Quality:
        rounds = self._booster.rounds
        by_name = {b.name: b.mean for b in bases}
        ridge = by_name[f"ridge ({LabelScale.RELATIVE if self.positive else LabelScale.PLAIN})"]
        held = partial(Scores.held_out, y, folds=folds, ratio=self.positive)
        return Quality(
            model=f"{chosen} + {rounds} LightGBM rounds" if rounds else chosen,
            n=len(y),
            scores=held(mean, widths=widths),
            mean=held(by_name["mean"]),
            ridge=held(ridge),
        )
