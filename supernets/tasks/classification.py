"""Classification: one class of several for each example."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from supernets.data import DataSet, Part
from supernets.tasks.agreement import AGREEMENT, OriginalOutputs, agreement_score, share_score
from supernets.tasks.base import Metric, Reduction, Score, Task
from supernets.tasks.divergence import Divergence, divergence


class Classification(Task):
    """Cross-entropy, and the accuracy: the share of examples whose largest output is their class's.

    The standard error is the binomial one, sqrt(p (1 - p) / n). Of networks that are made of a trained one, the original, there
    is the agreement with it, too.

    Args:
        original: Outputs of the original; None without one.
    """

    name = "classification"
    metrics = (Metric("accuracy", "share"), AGREEMENT)
    targets = "classes"
    verbs = ("classifies", "classified")

    def __init__(self, original: OriginalOutputs | None = None) -> None:
        self._original = original

    def with_original(self, original: OriginalOutputs) -> Classification:
        return Classification(original)

    def examples(self, metric: str, part: Part) -> Part:
        if metric != AGREEMENT.name or self._original is None:
            return part
        return self._original.labelled(part)

    def n_outputs(self, data: DataSet) -> int:
        return data.n_classes

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction="none")

    def loss(self, outputs: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction=reduction)

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        return _divergence(divergence, outputs, teacher)

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        if metric == AGREEMENT.name:
            return agreement_score(outputs, targets)
        return share_score(outputs.argmax(axis=1) == targets)

    def alike(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(first.argmax(axis=1) == second.argmax(axis=1), dtype=np.bool_)


_divergence = divergence
CLASSIFICATION = Classification()
