"""Classification: one class of several for each example."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from supernets.data import DataSet, Part
from supernets.errors import DataError
from supernets.tasks.agreement import AGREEMENT, OriginalOutputs, agreement_score, share_score
from supernets.tasks.base import Metric, Reduction, Score, Task
from supernets.tasks.class_metrics import TOP_K, auroc, balanced_accuracy, is_in_top, macro_f1
from supernets.tasks.divergence import Divergence, divergence


class Classification(Task):
    """Cross-entropy, and the accuracy: the share of examples whose largest output is their class's.

    The standard errors of the accuracy and of ``top5_accuracy`` are binomial, sqrt(p (1 - p) / n); those of ``macro_f1``,
    ``auroc`` and ``balanced_accuracy``, which are means over classes, come from influence functions. Of networks that are made
    of a trained one, the original, there is the agreement with it, too.

    Args:
        original: Outputs of the original; None without one.
        class_weights: Weights of the examples of each class in the loss, in the order of the data's classes; ``balanced`` for
            weights by which all classes count the same; None for equal weights of examples. Weights are scaled to a mean of 1
            over the training examples.
    """

    name = "classification"
    metrics = (
        Metric("accuracy", "share"),
        AGREEMENT,
        *(Metric(name, "share") for name in ("top5_accuracy", "macro_f1", "auroc", "balanced_accuracy")),
    )
    targets = "classes"
    verbs = ("classifies", "classified")

    def __init__(
        self,
        original: OriginalOutputs | None = None,
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
    ) -> None:
        self._original, self._class_weights = original, class_weights
        self._weights: Tensor | None = None

    def for_data(self, data: DataSet) -> Self:
        if self._class_weights is None:
            return self
        task = copy.copy(self)
        task._weights = _weights_of_classes(self._class_weights, data)
        return task

    def with_original(self, original: OriginalOutputs) -> Self:
        task = copy.copy(self)
        task._original = original
        return task

    def metric_problem(self, metric: str, data: DataSet) -> str | None:
        if metric == "top5_accuracy" and data.n_classes <= TOP_K:
            always = f"is always 100 % of {data.n_classes} classes"
            return f"{always}; expected more than {TOP_K} classes, or another metric, e.g. balanced_accuracy"
        if metric == "auroc":
            for name, part in (("validation", data.validation), ("test", data.test)):
                if len(part.labels.unique()) < 2:
                    return f"needs examples of at least 2 classes, and the {name} part has 1; take a larger part, or accuracy"
        return None

    def examples(self, metric: str, part: Part) -> Part:
        if metric != AGREEMENT.name or self._original is None:
            return part
        return self._original.labelled(part)

    def n_outputs(self, data: DataSet) -> int:
        return data.n_classes

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, self._weights_like(outputs), reduction="none")

    def loss(self, outputs: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        if self._weights is not None:  # the mean of torch's weighted loss is not that of the examples' losses
            return super().loss(outputs, targets, reduction=reduction)
        return functional.cross_entropy(outputs, targets, reduction=reduction)

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        return _divergence(divergence, outputs, teacher)

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        match metric:
            case AGREEMENT.name:
                return agreement_score(outputs, targets)
            case "top5_accuracy":
                return share_score(is_in_top(outputs, targets))
            case "macro_f1":
                return macro_f1(outputs.argmax(axis=1), targets)
            case "balanced_accuracy":
                return balanced_accuracy(outputs.argmax(axis=1), targets)
            case "auroc":
                return auroc(outputs, targets)
        return share_score(outputs.argmax(axis=1) == targets)

    def alike(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(first.argmax(axis=1) == second.argmax(axis=1), dtype=np.bool_)

    def _weights_like(self, outputs: Tensor) -> Tensor | None:
        return None if self._weights is None else self._weights.to(outputs)


def _weights_of_classes(weights: Sequence[float] | Literal["balanced"], data: DataSet) -> Tensor:
    """The weights of classes, (classes,), of mean 1 over the training examples."""
    counts = torch.bincount(data.train.labels, minlength=data.n_classes).double()
    if isinstance(weights, str):
        by_class = 1 / counts.clamp(min=1)
    elif len(weights) != data.n_classes:
        names = ", ".join(data.class_names[:10]) + (", ..." if data.n_classes > 10 else "")
        state = f"training.class_weights has {len(weights)} numbers, and there are {data.n_classes} classes ({names})"
        raise DataError(
            f"{data.name}: {state}; give one for each, in this order, or balanced",
            code="job.unfit-data",
        )
    else:
        by_class = torch.tensor(list(weights), dtype=torch.float64)
    return (by_class * counts.sum() / (by_class * counts).sum()).float()


_divergence = divergence
CLASSIFICATION = Classification()
