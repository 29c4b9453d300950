"""Multi-label classification: a set of labels for each example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from supernets.data import DataSet
from supernets.tasks.average_precision import average_precision, jackknifed
from supernets.tasks.base import Metric, Score, Task
from supernets.tasks.divergence import Divergence

THRESHOLD = 0.5
"""The probability from which on a label counts as given."""


class MultiLabel(Task):
    """Binary cross-entropy of each label, and the average precision: the mean over labels of the area under the curve of
    precision and recall.

    Outputs are logits, one a label; targets are (n, labels) of 0 and 1. Labels that no example has are left out of the mean.
    The standard error is the jackknife's (Efron and Stein 1981), without refitting: the metric is computed anew without each
    example. The distance from a teacher is the KL divergence of Bernoulli distributions, summed over labels.
    """

    name = "multi-label"
    metrics = (Metric("average_precision", "share"),)
    targets = "sets"
    verbs = ("labels", "labelled")

    def n_outputs(self, data: DataSet) -> int:
        return data.n_classes

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(1)

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        teacher = teacher.detach()
        probability = teacher.sigmoid()
        cross = functional.binary_cross_entropy_with_logits(outputs, probability, reduction="none")
        entropy = functional.binary_cross_entropy_with_logits(teacher, probability, reduction="none")
        return (cross - entropy).sum(1).mean()

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        has_label = targets > 0.5
        pseudo = jackknifed(outputs, has_label)
        return Score.of(average_precision(outputs, has_label), pseudo)

    def alike(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(np.all((first > 0) == (second > 0), axis=1), dtype=np.bool_)

    def described(self, data: DataSet) -> Mapping[str, Any]:
        return {
            "kind": "labels",
            "value": "1 / (1 + exp(-output)), the probability of each label",
            "threshold": THRESHOLD,
        }
