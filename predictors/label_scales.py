"""Scales of labels and of feature columns, and errors in units of the label or as ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from predictors.base import Array
from predictors.errors import PredictorError

REACH = 10.0
"""A decade: no model is reliable farther from all measurements."""


class LabelScale(StrEnum):
    """The transformation under which a model fits its labels."""

    PLAIN = "plain"
    """Squared error of the label."""
    RELATIVE = "relative"
    """The label itself, with squared error relative to it: for costs that add up over layers."""
    LOG = "log"
    """The logarithm of the label: for costs that multiply."""
    BEST = "best"
    """The logarithm of the distance to the largest label, see `best_warp`: for scores of which more is better."""

    @property
    def positive(self) -> bool:
        """True if labels must be above zero."""
        return self in (LabelScale.RELATIVE, LabelScale.LOG)


def check_scale(scale: LabelScale, accepted: Sequence[LabelScale], model: str) -> None:
    """Raises `PredictorError` (code ``predictor.invalid``) for a scale on which a model cannot fit its labels.

    Args:
        accepted: Scales on which it can.
        model: Name of the model, for the message.
    """
    if scale not in accepted:
        names = ", ".join(each.name for each in accepted)
        raise PredictorError(f"{model} cannot fit labels on the scale {scale.name}; expected {names}")


def errors_of(labels: Array, mean: Array, *, ratio: bool) -> Array:
    """Signed prediction errors, (n,): ``log(label / mean)`` where `ratio` (both above zero), else ``label - mean``."""
    return np.log(labels / mean) if ratio else labels - mean


def shifted(mean: Array, errors: Array | float, *, ratio: bool) -> Array:
    """The labels that would have these errors: the inverse of `errors_of`."""
    # Beyond e^±600 the product may leave the range of floats.
    return mean * np.exp(np.clip(errors, -600, 600)) if ratio else mean + errors


@dataclass(frozen=True, slots=True)
class Bounds:
    """The range that a model of ratios may predict: within a factor `REACH` of the labels.

    When extrapolating, linear models cross zero and exponentials explode; a ratio to such a value has no meaning.
    """

    low: float
    high: float

    @classmethod
    def of(cls, labels: Array, *, ratio: bool) -> Bounds:
        """The bounds for labels (n,); infinite unless errors are `ratio`s."""
        return cls(float(labels.min()) / REACH, float(labels.max()) * REACH) if ratio else cls(-np.inf, np.inf)

    def clip(self, mean: Array) -> Array:
        """Values, clipped to the bounds."""
        return np.clip(mean, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Centre and scale of the columns that vary; constant ones are dropped.

    Attributes:
        columns: Indices of the columns that are kept; the first column alone (as zeros) where none varies.
    """

    columns: NDArray[np.int64]
    centre: Array
    scale: Array

    @classmethod
    def identity(cls, n_columns: int) -> Standardiser:
        """Leaves columns as they are."""
        return cls(np.arange(n_columns), np.zeros(n_columns), np.ones(n_columns))

    @classmethod
    def of(cls, features: Array, weights: Array | None = None) -> Standardiser:
        """The standardiser of training rows (n, d); `weights` (n,) move the centre, not the scale."""
        scale = features.std(axis=0)
        # Rounding leaves constant columns of large numbers with a tiny deviation.
        columns = np.flatnonzero(scale > 1e-10 * np.abs(features).max(axis=0))
        if not len(columns):
            return cls(np.zeros(1, dtype=np.int64), features[:1, 0].copy(), np.ones(1))
        return cls(columns, np.average(features[:, columns], axis=0, weights=weights), scale[columns])

    def __call__(self, features: Array) -> Array:
        """Standardised columns, (m, n_columns)."""
        return (features[:, self.columns] - self.centre) / self.scale
