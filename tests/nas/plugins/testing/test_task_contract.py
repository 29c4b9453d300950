"""`nas.plugins.testing.TaskContract` on the shipped tasks, and on ones that break it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.plugins.testing import TaskContract
from supernets.data import Part
from supernets.tasks import Classification, MultiLabel, Regression, Score, Task
from supernets.tasks.agreement import OriginalOutputs


def outputs_of_an_original(part: Part) -> Tensor:
    """Random outputs for three classes."""
    return torch.randn(len(part), 3, generator=torch.Generator().manual_seed(0))


class TestClassification(TaskContract):
    @staticmethod
    def make() -> Task:
        return Classification(OriginalOutputs(outputs_of_an_original))


class TestRegression(TaskContract):
    @staticmethod
    def make() -> Task:
        return Regression()


class TestMultiLabel(TaskContract):
    @staticmethod
    def make() -> Task:
        return MultiLabel()


class Wrong(Classification):
    """The loss of all examples together, and the scores of examples in the order of their size."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().losses(outputs, targets).mean()

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        right = super().score(metric, outputs, targets)
        return Score.of(right.value, np.sort(right.examples))


class OfWrong(TaskContract):
    @staticmethod
    def make() -> Task:
        return Wrong()


def test_a_task_that_mixes_its_examples_fails() -> None:
    contract, task = OfWrong(), Wrong()
    prepared = task, contract.data(task)
    with pytest.raises(AssertionError):
        contract.test_each_example_has_a_loss_that_trains(prepared)
    with pytest.raises(AssertionError):
        contract.test_scores_are_finite_and_those_of_the_examples(prepared)
    contract.test_equal_outputs_mean_the_same(prepared)
