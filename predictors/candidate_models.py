"""The candidate models of `AutoPredictor`, with held-out predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from predictors.base import Array, Prediction, Predictor, query_array, training_arrays
from predictors.feature_columns import FeatureLayout
from predictors.folds import Folds, held_out
from predictors.kernel_process import KernelProcess
from predictors.label_scales import LabelScale, errors_of, shifted
from predictors.lightgbm import LINEAR_LEAVES, LightGBMPredictor
from predictors.linear import ColumnLinearPredictor, MeanPredictor, RidgePredictor

LIGHTGBM = "LightGBM"
TREE_ROWS = 15
"""Rows below which trees are not tried: each leaf has five."""
LINEAR_LEAF_ROWS = 80
"""Rows below which their leaves are constants: on published tables lines reduce errors from 100 rows on, not with 40."""


class ResidualPredictor:
    """A base of few parameters, corrected by a model of its errors.

    Errors are ratios where the base fits positive labels, else differences. They are in-sample errors, not held-out ones:
    an affine map of two parameters hardly overfits.

    Args:
        base: Makes the unfitted base.
        correction: Makes the unfitted model of its errors, on PLAIN labels.
    """

    minimum_rows = 3

    def __init__(
        self, base: Callable[[], RidgePredictor], correction: Callable[[], RidgePredictor | KernelProcess]
    ) -> None:
        self._base, self._correction = base(), correction()
        self._ratio = self._base.scale.positive
        self._n_columns: int | None = None

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, d) -> (n,)."""
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=self._ratio)
        self._base.fit(x, y)
        self._correction.fit(x, errors_of(y, self._base.predict(x).mean, ratio=self._ratio))
        self._labels, self._n_columns = y, x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, d)."""
        x = query_array(features, self._n_columns)
        return self._shifted(self._base.predict(x), self._correction.predict(x))

    def held_out(self, folds: Folds) -> Prediction:
        """Predictions of the training rows (n,), each without its fold."""
        return self._shifted(self._base.held_out(folds), self._correction.held_out(folds))

    def _shifted(self, base: Prediction, correction: Prediction) -> Prediction:
        mean = shifted(base.mean, correction.mean, ratio=self._ratio)
        std = correction.std * mean if self._ratio else correction.std
        low, high = (shifted(base.mean, end, ratio=self._ratio) for end in (correction.low, correction.high))
        return Prediction(mean, std, low, high)


@dataclass(frozen=True)
class Candidate:
    """A model by name.

    Attributes:
        make: Makes it, unfitted.
        refits: True if it is fitted again for each fold: there is no closed form, or its many parameters would make it
            optimistic.
    """

    name: str
    make: Callable[[], Predictor]
    refits: bool = False

    def tried(self, x: Array, y: Array, *, fine: Folds, coarse: Folds) -> tuple[Predictor, Prediction]:
        """The model fitted to (n, d) -> (n,), and its held-out predictions (n,): on `coarse` folds where it is refitted."""
        model = self.make()
        model.fit(x, y)
        if not self.refits and isinstance(model, RidgePredictor | KernelProcess | ResidualPredictor):
            closed = not isinstance(model, KernelProcess) or model.closed_form
            return model, model.held_out(fine if closed else coarse)
        return model, held_out(self.make, x, y, coarse if self.refits else fine)


def candidates(layout: FeatureLayout, n_columns: int, n_rows: int, *, positive: bool, seed: int) -> list[Candidate]:
    """The candidates for `n_rows` rows, from simple to rich.

    Args:
        positive: labels are above zero and may be fitted with relative error or as logarithms; others, as most of them are
            scores, by their distance from the largest one.
        seed: Seed of LightGBM.
    """
    linear = (LabelScale.RELATIVE, LabelScale.LOG) if positive else (LabelScale.PLAIN,)
    smooth = (LabelScale.PLAIN, LabelScale.LOG) if positive else (LabelScale.PLAIN, LabelScale.BEST)
    ridge = (LabelScale.RELATIVE, LabelScale.LOG, LabelScale.PLAIN) if positive else (LabelScale.PLAIN,)
    entries = [Candidate("mean", partial(MeanPredictor, scale=linear[-1]))]
    for scale in linear:
        for name, column in (("MACs", layout.macs), ("estimate", layout.estimate)):
            if column is not None:
                entries.append(Candidate(f"{name} ({scale})", partial(ColumnLinearPredictor, column, scale=scale)))
    encoding = layout.encoding(n_columns)
    for scale in ridge:
        parts = {" on aggregates": layout.aggregates, "": None, " on genes": encoding}
        for where, columns in parts.items():
            if columns is None or len(columns):
                make = partial(RidgePredictor, scale=scale, columns=columns)
                entries.append(Candidate(f"ridge{where} ({scale})", make))
    entries += _processes(layout, n_columns, smooth)
    entries += _on_estimate(layout, n_columns, linear)
    if n_rows >= TREE_ROWS:
        scale = LabelScale.LOG if positive else LabelScale.PLAIN
        trees = partial(LightGBMPredictor, scale=scale, seed=seed)
        entries.append(Candidate(LIGHTGBM, trees, refits=True))
        if n_rows >= LINEAR_LEAF_ROWS:
            with_lines = partial(trees, parameters=LINEAR_LEAVES)
            entries.append(Candidate(f"{LIGHTGBM} with linear leaves", with_lines, refits=True))
    return entries


def _processes(layout: FeatureLayout, n_columns: int, scales: tuple[LabelScale, ...]) -> list[Candidate]:
    entries = []
    for scale in scales:
        all_columns = partial(KernelProcess, scale=scale, lines=(), smooth=range(n_columns))
        entries.append(Candidate(f"Gaussian process ({scale})", all_columns))
        if layout.encoding(n_columns):
            make = partial(process_of, layout, n_columns, scale)
            entries.append(Candidate(f"Gaussian process on genes ({scale})", partial(make, lines=False)))
            entries.append(Candidate(f"lines and Gaussian process on genes ({scale})", make))
    return entries


def process_of(layout: FeatureLayout, n_columns: int, scale: LabelScale, *, lines: bool = True) -> KernelProcess:
    """A Gaussian process on the columns of genes, and with `lines` on them and on the aggregates; without genes, one on all
    columns."""
    encoding = layout.encoding(n_columns)
    if not encoding:
        return KernelProcess(scale=scale, lines=(), smooth=range(n_columns))
    groups = [layout.groups[i] for i in encoding] if layout.groups else []
    options = [layout.options[i] for i in encoding] if layout.options else []
    linear = (layout.aggregates, encoding) if lines else ()
    return KernelProcess(scale=scale, lines=linear, smooth=encoding, groups=groups, options=options)


def _on_estimate(layout: FeatureLayout, n_columns: int, scales: tuple[LabelScale, ...]) -> list[Candidate]:
    """Small models of the errors of an affine map of the estimate."""
    if layout.estimate is None:
        return []
    plain = LabelScale.PLAIN
    corrections: dict[str, Callable[[], RidgePredictor | KernelProcess]] = {
        "ridge on aggregates": partial(RidgePredictor, scale=plain, columns=layout.aggregates),
        "ridge": partial(RidgePredictor, scale=plain),
        "Gaussian process": partial(KernelProcess, scale=plain, lines=(), smooth=range(n_columns)),
    }
    entries = []
    for scale in scales:
        base = partial(ColumnLinearPredictor, layout.estimate, scale=scale)
        entries += [
            Candidate(f"estimate ({scale}) + {name}", partial(ResidualPredictor, base, m))
            for name, m in corrections.items()
        ]
    return entries
