"""The average precision of rankings, and its jackknife: the value without each example, in one pass over sorted scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


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
    """The average precision of one label that an example has, and that without each example, (n,)."""
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
