"""Regression: one number for each example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from supernets.data import DataSet
from supernets.errors import DataError
from supernets.tasks.base import Metric, Score, Task


class Regression(Task):
    """The squared error of standardised numbers, and the metrics ``mae`` (in the numbers' own unit) and ``r2``.

    Networks put out the number less the training part's mean, over its deviation: `mean` and `std`. The distance from a
    teacher is half the squared difference of the outputs.

    The standard error of R² = 1 - SSE / SST comes from its influence function, with the squared error e² and the squared
    distance d² from the mean of each example: (1 - R²) d² / m - e² / m, where m is the mean of d². It treats the examples as
    independent, and is exact to first order in 1 / n; both terms vary, so that errors are right for paired differences too.
    """

    name = "regression"
    metrics = (Metric("mae", maximize=False), Metric("r2"))
    targets = "numbers"
    verbs = ("predicts", "predicted")

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std = mean, std

    def for_data(self, data: DataSet) -> Self:
        numbers = {part: getattr(data, part).labels.double() for part in ("train", "validation", "test")}
        for part, labels in numbers.items():
            if labels.ndim != 1 or not labels.isfinite().all():
                raise DataError(f"{data.name}: the labels of the {part} part are not one finite number each")
            if float(labels.std(correction=0)) == 0.0:
                value = f"{float(labels[0]):g}" if len(labels) else "none"
                raise DataError(
                    f"{data.name}: all labels of the {part} part are {value}; expected different numbers",
                    code="data.unsplittable",
                )
        train = numbers["train"]
        return type(self)(float(train.mean()), float(train.std(correction=0)))

    def n_outputs(self, data: DataSet) -> int:
        return 1

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(1) - (targets - self.mean) / self.std) ** 2

    def numbers(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """The numbers that outputs (n, 1) stand for, (n,)."""
        return outputs[:, 0].astype(np.float64) * self.std + self.mean

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        truth = targets.astype(np.float64)
        errors = self.numbers(outputs) - truth
        if metric == "mae":
            away = np.abs(errors)
            return Score.of(float(away.mean()), away)
        squared, spread = errors**2, (truth - truth.mean()) ** 2
        scale = float(spread.mean()) or 1.0  # one number alone has no spread
        value = 1.0 - float(squared.mean()) / scale
        # Around the value, so that the scores' mean is it.
        return Score.of(value, value + ((1.0 - value) * spread - squared) / scale)

    def described(self, data: DataSet) -> Mapping[str, Any]:
        return {"kind": "number", "value": "output * std + mean", "mean": self.mean, "std": self.std}
