"""Agreement with the original network, whose outputs to examples stand in place of their labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from supernets.data import Part
from supernets.tasks.base import Metric, Score

AGREEMENT = Metric("agreement", "share")
"""The share of examples (of pixels or tokens, where each has classes) whose largest output is that of the original."""


@dataclass(frozen=True, eq=False)
class OriginalOutputs:
    """Outputs of the original network, computed once for each part of the data.

    Attributes:
        compute: Function from a part to the outputs for its examples, (n, ...), in the part's order.
    """

    compute: Callable[[Part], Tensor]
    _parts: dict[str, Part] = field(default_factory=dict, repr=False)

    def labelled(self, part: Part) -> Part:
        """The part with the outputs in place of labels; its digest is that of the part."""
        if part.digest not in self._parts:
            self._parts[part.digest] = replace(part, labels=self.compute(part))
        return self._parts[part.digest]


def agreement_score(outputs: NDArray[np.float32], original: NDArray[Any]) -> Score:
    """The agreement of outputs with the original's, both (n, classes, ...)."""
    equal = outputs.argmax(axis=1) == original.argmax(axis=1)
    if equal.ndim == 1:
        return share_score(equal)
    shares = equal.reshape(len(equal), -1).mean(axis=1)
    return Score.of(float(shares.mean()), shares)


def share_score(right: NDArray[np.bool_]) -> Score:
    """The share of examples that are right, with the binomial standard error, sqrt(p (1 - p) / n).

    Of none or all of them, which would have an error of 0 and look certain, it is half the width of the score interval of one
    standard error (Wilson 1927): 1 / (2 (n + 1)).
    """
    share, n = int(right.sum()) / len(right), len(right)
    return Score(share, math.sqrt(share * (1 - share) / n) if 0 < share < 1 else 0.5 / (n + 1), right)
