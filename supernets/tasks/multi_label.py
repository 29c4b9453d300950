"""Multi-label classification: a set of labels for each example, and the average precision of rankings with its jackknife."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from supernets.data import DataSet
from supernets.tasks.base import Metric, Score, Task
from supernets.tasks.divergence import Divergence

THRESHOLD = 0.5
"""The probability from which on a label counts as given."""
_Floats = NDArray[np.float64]


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


def average_precision(outputs: NDArray[np.float32], has_label: NDArray[np.bool_]) -> float:
    """The mean over labels of the average precision: the sum over thresholds of the gain in recall times the precision.

    Examples of equal output are one threshold. Labels that no example has are left out; NaN if none has any.

    Args:
        outputs: (n, labels), larger for more likely.
        has_label: (n, labels), bool, True where an example has a label.
    """
    precisions = [_of_label(outputs[:, i], has_label[:, i])[0] for i in np.flatnonzero(has_label.any(axis=0)).tolist()]
    return float(np.mean(precisions)) if precisions else float("nan")


def jackknifed(outputs: NDArray[np.float32], has_label: NDArray[np.bool_]) -> _Floats:
    """The jackknife's pseudo-values of `average_precision`, (n,): n times the value, less n - 1 times that without the example.

    Their mean has the jackknife's standard error, and the mean of the differences of two networks' pseudo-values that of the
    difference. A label that an example alone has keeps its value without the example.
    """
    n, labels = len(outputs), np.flatnonzero(has_label.any(axis=0)).tolist()
    total = np.zeros(n)
    for i in labels:
        value, without = _of_label(outputs[:, i], has_label[:, i])
        total += n * value - (n - 1) * without
    return total / max(1, len(labels))


def _of_label(scores: NDArray[np.float32], has_label: NDArray[np.bool_]) -> tuple[float, _Floats]:
    """The average precision of one label that an example has, and that without each example, (n,), in one pass over sorted
    scores."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last of each group of equal scores
    group = np.searchsorted(ends, np.arange(len(scores)))
    hits = np.cumsum(has_label[order])[ends].astype(np.float64)
    n_ranked = ends + 1.0
    group_hits = np.diff(hits, prepend=0.0)  # examples with the label in each group
    n_held = hits[-1]
    before = np.concatenate([[0.0], np.cumsum(group_hits * hits / n_ranked)])
    fewer = np.maximum(n_ranked - 1.0, 1.0)  # of the first group of one example nothing is left
    # An example counts in the precision of its own group and of all after it.
    without_other, without_held = group_hits * hits / fewer, group_hits * (hits - 1.0) / fewer
    after_other, after_held = (np.cumsum(terms[::-1])[::-1] for terms in (without_other, without_held))
    non_holders = (before[group] + after_other[group]) / n_held
    value = before[-1] / n_held
    if n_held == 1:
        holders = np.full(len(scores), value)
    else:
        last = ((hits - 1.0) / fewer)[group]  # the example is no more of those in its group
        holders = (before[group] + after_held[group] - last) / (n_held - 1.0)
    without = np.empty(len(scores))
    without[order] = np.where(has_label[order], holders, non_holders)
    return float(value), without
