"""Imitation of a trained network: its outputs to examples without labels are what networks are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from supernets.data import DataSet, Part
from supernets.tasks.agreement import AGREEMENT, OriginalOutputs, agreement_score
from supernets.tasks.base import Metric, Score, Task
from supernets.tasks.divergence import Divergence, divergence

R2 = Metric("r2")


class Imitation(Task):
    """Examples without labels, of which each has the original network's outputs in place of a label.

    The metrics are ``agreement``, of outputs that are scores of classes, (n, classes, ...), and ``r2``, of any others: one less
    the sum of squared differences over that of the original's outputs from their mean over examples. The loss of classes is the
    cross-entropy to the original's most likely one (hard distillation: Touvron et al. 2021, arXiv 2012.12877), and the distance
    from a teacher a divergence of probabilities; of others, both are half the squared difference.

    Args:
        of_classes: True if outputs are scores of classes.
        original: Outputs of the original; None where nothing is trained or scored.
    """

    name = "imitation"
    metrics: tuple[Metric, ...] = (AGREEMENT, R2)
    targets = "none"
    scored_together = 32

    def __init__(self, *, of_classes: bool = True, original: OriginalOutputs | None = None) -> None:
        self._of_classes, self._original = of_classes, original
        self.metrics = type(self).metrics if of_classes else (R2,)

    def with_original(self, original: OriginalOutputs) -> Imitation:
        return Imitation(of_classes=self._of_classes, original=original)

    def n_outputs(self, data: DataSet) -> None:
        return None

    def examples(self, metric: str, part: Part) -> Part:
        return part if self._original is None else self._original.labelled(part)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if not self._of_classes:
            return 0.5 * (outputs - targets).square().flatten(1).sum(1)
        losses = functional.cross_entropy(outputs, targets.argmax(1), reduction="none")
        return losses.reshape(len(losses), -1).mean(1)

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        if not self._of_classes:
            return super().distance(outputs, teacher, divergence)
        return _divergence(divergence, *(logits.movedim(1, -1).flatten(0, -2) for logits in (outputs, teacher)))

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        if metric == AGREEMENT.name:
            return agreement_score(outputs, targets)
        squared, spread = (
            np.square(difference, dtype=np.float64).reshape(len(outputs), -1).sum(axis=1)
            for difference in (outputs - targets, targets - targets.mean(axis=0))
        )
        scale = float(spread.mean()) or 1.0
        value = 1.0 - float(squared.mean()) / scale
        return Score.of(value, value + ((1.0 - value) * spread - squared) / scale)  # as of `Regression`

    def alike(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        if not self._of_classes:
            return super().alike(first, second)
        equal = first.argmax(axis=1) == second.argmax(axis=1)
        return np.asarray(equal.reshape(len(equal), -1).all(axis=1), dtype=np.bool_)


_divergence = divergence
