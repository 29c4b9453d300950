"""Metrics of classification beside the accuracy, with the influence functions that their standard errors come from.

Classes that no example has are left out of means over classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernets.tasks.base import Score

TOP_K = 5
"""Classes of the largest outputs of which one must be the example's."""
_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Bools = NDArray[np.bool_]


def is_in_top(outputs: NDArray[np.float32], classes: NDArray[Any], k: int = TOP_K) -> _Bools:
    """A mask of the examples whose class is among those of the k largest outputs, (n,); of equal outputs the first classes.

    Args:
        outputs: (n, classes).
        classes: (n,), positions of the examples' classes.
    """
    label_outputs = np.take_along_axis(outputs, classes[:, None], axis=1)
    is_earlier = np.arange(outputs.shape[1]) < classes[:, None]
    n_before = ((outputs > label_outputs) | ((outputs == label_outputs) & is_earlier)).sum(axis=1)
    return np.asarray(n_before < k, dtype=np.bool_)


def balanced_accuracy(predicted: _Ints, classes: _Ints) -> Score:
    """The mean over classes of the share of their examples that are right.

    Args:
        predicted: (n,), classes of the largest outputs.
        classes: (n,), the examples' classes.
    """
    n, right = len(classes), predicted == classes
    counts = np.bincount(classes)
    shown = np.flatnonzero(counts)
    recalls = np.bincount(classes, weights=right, minlength=len(counts)) / np.maximum(counts, 1)
    value = float(recalls[shown].mean())
    return Score.of_share(value, value + n / len(shown) * (right - recalls[classes]) / counts[classes])


def macro_f1(predicted: _Ints, classes: _Ints) -> Score:
    """The mean over classes of F1: twice the right answers over the examples that have the class or get it.

    Args:
        predicted: (n,), classes of the largest outputs.
        classes: (n,), the examples' classes.
    """
    n, right = len(classes), predicted == classes
    n_classes = int(max(predicted.max(), classes.max())) + 1
    is_shown = np.bincount(classes, minlength=n_classes) > 0
    sums = np.bincount(classes, minlength=n_classes) + np.bincount(predicted, minlength=n_classes)
    f1 = np.where(is_shown, 2 * np.bincount(classes, weights=right, minlength=n_classes) / np.maximum(sums, 1), 0.0)
    value = float(f1[is_shown].mean())
    # An example adds 2 to the numerator if it is right, and 1 to the denominators of its class and of its answer.
    change = (2 * right - f1[classes]) / sums[classes] - f1[predicted] / sums[predicted]
    return Score.of_share(value, value + n / is_shown.sum() * change)


def auroc(outputs: NDArray[np.float32], classes: _Ints) -> Score:
    """The mean over classes of the area under the receiver operating characteristic of each class against all others.

    Examples are ordered by the softmax probability of the class. The area is the share of pairs of an example of the class and
    another one in which the former has the larger probability, where equal ones count half. Its influence function has the
    structural components of DeLong et al. 1988 (Biometrics 44): of each example, the share of its pairs that are in order. The
    value is NaN where all examples have one class.

    Args:
        outputs: (n, classes), logits.
        classes: (n,), the examples' classes.
    """
    n, counts = len(classes), np.bincount(classes, minlength=outputs.shape[1])
    shown = np.flatnonzero((counts > 0) & (counts < n))
    if not len(shown):
        return Score(float("nan"), float("nan"), np.full(n, np.nan))
    odds, areas, influence = _log_odds(outputs), np.zeros(len(shown)), np.zeros(n)
    for i, label in enumerate(shown.tolist()):
        is_member = classes == label
        members, rivals = odds[is_member, label], odds[~is_member, label]
        of_members, of_others = _share_below(members, rivals), 1 - _share_below(rivals, members)
        areas[i] = of_members.mean()
        influence[is_member] += n * (of_members - areas[i]) / len(members)
        influence[~is_member] += n * (of_others - areas[i]) / len(rivals)
    value = float(areas.mean())
    return Score.of_share(value, value + influence / len(shown))


def _log_odds(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithms of p / (1 - p) of softmax probabilities, (n, classes): also where these round to 1.

    They are rounded to float32, the precision of outputs, so that equal probabilities stay equal in any order of classes.
    """
    logits = outputs.astype(np.float64)
    log_p = logits - _log_sum_exp(logits)
    largest = logits.argmax(axis=1)[:, None]
    rivals = np.array(logits)
    np.put_along_axis(rivals, largest, -np.inf, axis=1)
    largest_odds = np.take_along_axis(logits, largest, axis=1) - _log_sum_exp(rivals)
    odds = log_p - np.log1p(-np.exp(np.minimum(log_p, np.log(0.5))))  # of all but the largest, at most one half
    np.put_along_axis(odds, largest, largest_odds, axis=1)
    return odds.astype(np.float32)


def _log_sum_exp(logits: _Floats) -> _Floats:
    """The logarithms of sums of exponentials over classes, (n, 1)."""
    largest = logits.max(axis=1, keepdims=True)
    sums: _Floats = largest + np.log(np.exp(logits - largest).sum(axis=1, keepdims=True))
    return sums


def _share_below(values: NDArray[np.float32], rivals: NDArray[np.float32]) -> _Floats:
    """The share of the rivals that are smaller than each value, where equal ones count half, (n,)."""
    ordered = np.sort(rivals)
    below, up_to = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(rivals)), dtype=np.float64)
