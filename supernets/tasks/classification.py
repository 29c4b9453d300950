"""Classification: one class of several for each example."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from supernets.data import DataSet
from supernets.tasks.base import Metric, Reduction, Score, Task
from supernets.tasks.divergence import Divergence, divergence


class Classification(Task):
    """Cross-entropy, and the accuracy: the share of examples whose largest output is their class's.

    The standard error is the binomial one, sqrt(p (1 - p) / n).
    """

    name = "classification"
    metrics = (Metric("accuracy", "share"),)
    targets = "classes"
    verbs = ("classifies", "classified")

    def n_outputs(self, data: DataSet) -> int:
        return data.n_classes

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction="none")

    def loss(self, outputs: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction=reduction)

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        return _divergence(divergence, outputs, teacher)

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        right = outputs.argmax(axis=1) == targets
        share = int(right.sum()) / len(right)
        return Score(share, _binomial_error(share, len(right)), right)

    def alike(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(first.argmax(axis=1) == second.argmax(axis=1), dtype=np.bool_)


def _binomial_error(share: float, n: int) -> float:
    """The standard error of a share of n examples, sqrt(p (1 - p) / n).

    Of none or all of them, which would have an error of 0 and look certain, it is half the width of the score interval of one
    standard error (Wilson 1927): 1 / (2 (n + 1)).
    """
    return math.sqrt(share * (1 - share) / n) if 0 < share < 1 else 0.5 / (n + 1)


_divergence = divergence
CLASSIFICATION = Classification()
