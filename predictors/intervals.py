"""Predictive deviation and 90 % interval from errors on rows that a model did not see."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from predictors.base import Array, Prediction
from predictors.label_scales import shifted

LEVEL = 0.9
"""Nominal coverage of the central interval."""
N_CHOSEN = 7
"""Number of parameters that the errors choose: weights of models, penalties and kernel lengths; with 7, intervals cover
published tables as they should."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The distance of new labels from their predictions, in multiples of a width (1 unless rows have widths of their own).

    Attributes:
        std: root mean square of the errors.
        half: half the interval: a share `LEVEL` of new errors is within it.
    """

    std: float
    half: float

    @classmethod
    def of(cls, errors: Array, widths: Array | None = None) -> Spread:
        """The spread of held-out errors (n,), divided by their widths (n,) where given.

        The interval is the split conformal one (Papadopoulos et al. 2002; normalised by widths: Lei et al. 2018,
        arXiv:1604.04173): the ceil((n + 1) * 0.9)-th smallest absolute error. Departures: the errors come from
        cross-validation, not from one held-out part; below 9 rows, where that rank does not exist, the interval is
        Student's t of the root mean square.
        """
        scores = np.abs(errors) if widths is None else np.abs(errors) / widths
        n, std = len(scores), float(np.sqrt(np.mean(scores**2)))
        rank = math.ceil((n + 1) * LEVEL - 1e-9)
        if rank > n:
            return cls(std, std * float(student.ppf(0.5 + LEVEL / 2, max(n - 1, 1))))
        return cls(std, float(np.partition(scores, rank - 1)[rank - 1]))

    def widened(self, n: int) -> Spread:
        """This spread of n errors, widened for the `N_CHOSEN` numbers that were chosen by these very errors.

        As residuals of n rows and p coefficients are: by the square root of n / (n - p); with few rows, of 2.
        """
        factor = math.sqrt(n / max(n - N_CHOSEN, n / 2))
        return Spread(self.std * factor, self.half * factor)

    def around(self, mean: Array, *, ratio: bool, widths: Array | None = None) -> Prediction:
        """The prediction with this spread about a mean (m,).

        Args:
            ratio: the spread is of ratios (see `errors_of`).
            widths: Width of each row (m,), where the spread was taken with widths.
        """
        scale = np.ones_like(mean) if widths is None else widths
        # To first order: the deviation of exp(e) itself explodes with large errors.
        std = self.std * scale * (mean if ratio else 1.0)
        low = shifted(mean, -self.half * scale, ratio=ratio)
        return Prediction(mean, std, low, shifted(mean, self.half * scale, ratio=ratio))


def widths_help(errors: Array, widths: Array) -> bool:
    """Returns True if widths (n,) describe held-out errors (n,) better than one constant, by Gaussian likelihood.

    Both descriptions have one free scale, so that their likelihoods compare as they are.
    """
    constant, scaled = Spread.of(errors).std, Spread.of(errors, widths).std
    if constant <= 0 or scaled <= 0:
        return False
    return math.log(scaled) + float(np.mean(np.log(widths))) < math.log(constant)
