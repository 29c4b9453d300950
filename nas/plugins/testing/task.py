"""The contract of tasks: a class to subclass as `Test...` with a `make`."""

from __future__ import annotations

import json
import pickle
from abc import abstractmethod
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.jobs.schema.metrics import METRIC
from supernets.data import DataSet, Examples, Source, checked_source, data_set_of
from supernets.tasks import Task

_N = 12


class TaskContract:
    """Inherit and give `make`; `data` for labels other than classes, numbers and sets; `outputs` for other shapes."""

    @staticmethod
    @abstractmethod
    def make() -> Task:
        """The task, as a job makes it: without arguments."""

    def data(self, task: Task) -> DataSet:
        """Small data with labels of the task's kind, before the task prepares them.

        Args:
            task: Task under test, whose `targets` is the kind of the labels.
        """
        rng, n = np.random.default_rng(0), 90
        images = rng.integers(0, 256, (n, 1, 8, 8)).astype(np.uint8)
        names: tuple[str, ...] = ("one", "two", "three")
        labels: NDArray[Any] = np.arange(n) % 3
        if task.targets == "numbers":
            names, labels = (), images.mean(axis=(1, 2, 3))
        elif task.targets == "sets":
            labels = np.stack([labels != i for i in range(3)], axis=1).astype(np.float32)
        kind = task.targets if task.targets in ("numbers", "sets") else "classes"
        source = Source("small", names, Examples(images, labels), targets=kind)
        return data_set_of("small", checked_source(source, "the small data"))

    def outputs(self, task: Task, data: DataSet, n: int) -> Tensor:
        """Outputs of a network to `n` examples, (n, ...).

        Args:
            task: Task under test, fitted to the data.
            data: Data that the task has prepared.
            n: Number of examples, at least 1.
        """
        return torch.randn((n, task.n_outputs(data) or 1), generator=torch.Generator().manual_seed(1))

    def scored_outputs(self, task: Task, data: DataSet, n: int) -> Tensor:
        """Outputs that the task scores for `n` examples, (n, ...); those of training unless the task `decodes`.

        Args:
            task: Task under test, fitted to the data.
            data: Data that the task has prepared.
            n: Number of examples, at least 1.
        """
        return self.outputs(task, data, n)

    @pytest.fixture
    def prepared(self) -> tuple[Task, DataSet]:
        """The task fitted to its data, and these."""
        task = self.make()
        data = task.prepared(self.data(task))
        return task.for_data(data), data

    def test_the_names_of_its_metrics_are_those_that_jobs_write(self) -> None:
        names = [metric.name for metric in self.make().metrics]
        assert names
        assert len(set(names)) == len(names)
        assert all(METRIC.fullmatch(name) for name in names)

    def test_its_data_have_labels_of_its_kind(self, prepared: tuple[Task, DataSet]) -> None:
        """The prepared data have labels of the kind that the task states.

        Args:
            prepared: The task fitted to its data, and these data.
        """
        task, data = prepared
        assert data.targets == task.targets

    def test_each_example_has_a_loss_that_trains(self, prepared: tuple[Task, DataSet]) -> None:
        """The loss of each example is finite and depends on its outputs; the losses of a batch are their mean or their sum.

        Args:
            prepared: The task fitted to its data, and these data.
        """
        task, data = prepared
        outputs, targets = self.outputs(task, data, _N).requires_grad_(), data.train.labels[:_N]
        losses = task.losses(outputs, targets)
        assert losses.shape == (_N,)
        assert losses.isfinite().all()
        (slope,) = torch.autograd.grad(losses.sum(), outputs)
        assert slope.flatten(1).abs().sum(1).gt(0).all(), "the loss of an example does not depend on its outputs"
        torch.testing.assert_close(task.loss(outputs, targets), losses.mean())
        torch.testing.assert_close(task.loss(outputs, targets, reduction="sum"), losses.sum())

    def test_a_teacher_is_learned_from(self, prepared: tuple[Task, DataSet]) -> None:
        """The distance from a teacher's outputs is smaller for nearer outputs, and has a finite gradient.

        Args:
            prepared: The task fitted to its data, and these data.
        """
        task, data = prepared
        teacher = self.outputs(task, data, _N)
        near, far = (teacher + shift * torch.randn_like(teacher) for shift in (0.01, 2.0))
        near.requires_grad_()
        distance = task.distance(near, teacher, "kl")
        assert distance.shape == ()
        assert distance < task.distance(far, teacher, "kl")
        (slope,) = torch.autograd.grad(distance, near)
        assert slope.isfinite().all()

    def test_scores_are_finite_and_those_of_the_examples(self, prepared: tuple[Task, DataSet]) -> None:
        """Each metric is finite, has an error of at least 0 and a score for each example, and does not depend on their order.

        Args:
            prepared: The task fitted to its data, and these data.
        """
        task, data = prepared
        for metric in task.metrics:
            part = task.examples(metric.name, data.validation)
            outputs, targets = self.scored_outputs(task, data, len(part)).numpy(), part.labels.numpy()
            order = np.random.default_rng(2).permutation(len(targets))
            score = task.score(metric.name, outputs, targets)
            again = task.score(metric.name, outputs[order], targets[order])
            assert np.isfinite(score.value)
            assert score.error >= 0
            assert score.examples.shape == (len(targets),)
            assert again.value == pytest.approx(score.value, rel=1e-5, abs=1e-6)
            np.testing.assert_allclose(
                again.examples.astype(float), score.examples[order].astype(float), rtol=1e-4, atol=1e-5
            )

    def test_equal_outputs_mean_the_same(self, prepared: tuple[Task, DataSet]) -> None:
        """The check of an export, which compares two networks by their answers, accepts equal outputs.

        Args:
            prepared: The task fitted to its data, and these data.
        """
        task, data = prepared
        outputs = self.scored_outputs(task, data, _N).numpy()
        assert task.alike(outputs, outputs).tolist() == [True] * _N
        np.testing.assert_array_equal(task.aligned(outputs, outputs), outputs)

    def test_what_a_deployment_must_know_is_written_as_json(self, prepared: tuple[Task, DataSet]) -> None:
        """The facts of the task that a deployment needs can be written as JSON, as in the manifest of an export.

        Args:
            prepared: The task fitted to its data, and these data.
        """
        task, data = prepared
        json.dumps(dict(task.described(data)))

    def test_it_is_sent_to_other_processes(self, prepared: tuple[Task, DataSet]) -> None:
        """A pickled task gives the same losses: other processes score networks.

        Args:
            prepared: The task fitted to its data, and these data.
        """
        task, data = prepared
        again = pickle.loads(pickle.dumps(task))
        outputs, targets = self.outputs(task, data, _N), data.train.labels[:_N]
        torch.testing.assert_close(again.losses(outputs, targets), task.losses(outputs, targets))
