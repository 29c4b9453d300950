"""How labels are transformed and how errors are counted: in units of the label, or in ratios."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from predictors.base import Array

REACH = 10.0
"""A decade: further from every measurement no model is believed."""


class LabelScale(StrEnum):
    """In which terms a model fits its labels."""

    PLAIN = "plain"
    """Squared error of the label."""
    RELATIVE = "relative"
    """The label itself, with squared error relative to it: for costs that add up over layers."""
    LOG = "log"
    """The logarithm of the label: for costs that multiply."""

    @property
    def positive(self) -> bool:
        """Whether labels must be above zero."""
        return self is not LabelScale.PLAIN


def errors_of(labels: Array, mean: Array, *, ratio: bool) -> Array:
    """Signed prediction errors, (n,): ``log(label / mean)`` where `ratio` (both above zero), else ``label - mean``."""
    return np.log(labels / mean) if ratio else labels - mean


def shifted(mean: Array, errors: Array | float, *, ratio: bool) -> Array:
    """The labels that would have these errors: the inverse of `errors_of`."""
    # Beyond e^±600 the product may leave the range of floats; no figure is there.
    return mean * np.exp(np.clip(errors, -600, 600)) if ratio else mean + errors


@dataclass(frozen=True, slots=True)
class Bounds:
    """The figures that a model of ratios may predict: within a factor `REACH` of the labels seen.

    Linear models cross zero and exponentials explode where they extrapolate; a ratio to such a figure has no meaning.
    """

    low: float
    high: float

    @classmethod
    def of(cls, labels: Array, *, ratio: bool) -> Bounds:
        """The bounds for labels (n,); infinite unless errors are `ratio`s."""
        return cls(float(labels.min()) / REACH, float(labels.max()) * REACH) if ratio else cls(-np.inf, np.inf)

    def clip(self, mean: Array) -> Array:
        """Figures moved to the nearest bound."""
        out: Array = np.clip(mean, self.low, self.high)
        return out
