"""`nas.plugins.testing.TaskContract` on the shipped tasks, and on ones that break it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.plugins.testing import TaskContract
from supernets.data import DataSet, Part
from supernets.data.targets import IGNORED
from supernets.tasks import Classification, MultiLabel, Regression, Score, Segmentation, Task
from supernets.tasks.agreement import OriginalOutputs
from supernets.tasks.detection.detection import Detection
from supernets.tasks.detection.head import DetectionHead


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


class OnPixels(TaskContract):
    """Images of squares on a background, which have a class each."""

    def squares(self, task: Task) -> tuple[DataSet, dict[str, NDArray[np.int64]]]:
        """The data set with its images, and the class, left and top of the square of 4 pixels of each image by part."""
        data, rng = super().data(Classification()), np.random.default_rng(3)
        n_by_part = {part: len(getattr(data, part)) for part in ("train", "validation", "test")}
        return data, {
            part: np.stack([np.arange(n) % 3, *rng.integers(0, 5, (2, n))], axis=1) for part, n in n_by_part.items()
        }


def labelled(data: DataSet, targets: str, labels: Mapping[str, NDArray[Any]]) -> DataSet:
    """The data set with other labels."""
    parts = {part: replace(getattr(data, part), labels=torch.from_numpy(values)) for part, values in labels.items()}
    return replace(data, targets=targets, **parts)


class TestSegmentation(OnPixels):
    @staticmethod
    def make() -> Task:
        return Segmentation()

    def data(self, task: Task) -> DataSet:
        data, squares = self.squares(task)
        masks = {part: np.zeros((len(rows), 8, 8), dtype=np.uint8) for part, rows in squares.items()}
        for part, rows in squares.items():
            for mask, (label, left, top) in zip(masks[part], rows, strict=True):
                mask[0] = IGNORED
                mask[top : top + 4, left : left + 4] = label
        return labelled(data, "masks", masks)

    def outputs(self, task: Task, data: DataSet, n: int) -> Tensor:
        return torch.randn((n, data.n_classes, 8, 8), generator=torch.Generator().manual_seed(1))

    def scored_outputs(self, task: Task, data: DataSet, n: int) -> Tensor:
        return self.outputs(task, data, n).argmax(1).to(torch.uint8)


class OneBox(DetectionHead):
    """One location: the corners of a box, and a logit for each class."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        classes = functional.cross_entropy(outputs[:, 0, 4:], targets[:, 0, 0].long(), reduction="none")
        return classes + (outputs[:, 0, :4] - targets[:, 0, 1:5]).abs().mean(1)

    def decoded(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        return outputs[..., :4], outputs[..., 4:].sigmoid()

    def distance(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        return (outputs - teacher).square().mean()


class TestDetection(OnPixels):
    @staticmethod
    def make() -> Task:
        return Detection(OneBox())

    def data(self, task: Task) -> DataSet:
        data, squares = self.squares(task)
        boxes = {part: np.zeros((len(rows), 4, 8), dtype=np.float32) for part, rows in squares.items()}
        for part, rows in squares.items():
            scales = 10.0 + 30 * (np.arange(len(rows)) % 3)  # of squares of all sizes
            boxes[part][:, :, 0], boxes[part][:, :, 7] = -1, scales[:, None]
            boxes[part][:, 0, :3], boxes[part][:, 0, 3:5] = rows, rows[:, 1:] + 4
            boxes[part][:, 0, 5] = (4 * scales) ** 2 * np.where(np.arange(len(rows)) % 2, 0.3, 1.0)
        return labelled(data, "boxes", boxes)

    def outputs(self, task: Task, data: DataSet, n: int) -> Tensor:
        return torch.randn((n, 1, 4 + data.n_classes), generator=torch.Generator().manual_seed(1))

    def scored_outputs(self, task: Task, data: DataSet, n: int) -> Tensor:
        corners = torch.from_numpy(np.random.default_rng(4).integers(0, 5, (n, 30, 2)).astype(np.float32))
        scores = torch.rand((n, 30, 1), generator=torch.Generator().manual_seed(1)).sort(1, descending=True).values
        classes = torch.randint(0, data.n_classes, (n, 30, 1), generator=torch.Generator().manual_seed(1)).float()
        return torch.cat([corners, corners + 4, scores, classes], 2)


def test_metrics_without_labels_that_count_have_a_problem() -> None:
    contract = TestDetection()
    task = contract.make()
    data = contract.data(task)
    assert all(task.metric_problem(metric.name, data) is None for metric in task.metrics)
    for part, column, value in (("validation", 5, 2000.0), ("test", 6, 1.0)):
        boxes = getattr(data, part).labels.clone()
        boxes[..., column] = value  # all of a medium size, or crowds
        changed = replace(data, **{part: replace(getattr(data, part), labels=boxes)})
        problem = task.metric_problem("map_small", changed)
        assert problem is not None
        assert part in problem
        assert "1024" in problem
        assert (task.metric_problem("map", changed) is None) is (column == 5)
    of_masks = TestSegmentation()
    masks = of_masks.data(Segmentation())
    ignored = replace(masks, test=replace(masks.test, labels=torch.full_like(masks.test.labels, IGNORED)))
    assert Segmentation().metric_problem("miou", masks) is None
    assert "test part" in str(Segmentation().metric_problem("miou", ignored))


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
