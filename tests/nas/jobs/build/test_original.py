from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from nas.jobs.build.job_data import JobData
from nas.jobs.build.original import check_class_order
from supernets.data import Part
from supernets.tasks import CLASSIFICATION
from supernets.tasks.agreement import OriginalOutputs
from tests.errors import raises


def data_of(answers: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], objectives: tuple[str, ...]) -> JobData:
    outputs = torch.eye(5)[torch.from_numpy(answers)]
    part = Part.of(torch.zeros(len(labels), 1), torch.from_numpy(labels))
    dataset = SimpleNamespace(targets="classes", class_names=tuple("abcde"), validation=part)
    job = SimpleNamespace(config=SimpleNamespace(objectives=objectives, constraints={}), source="job.yaml")
    task = CLASSIFICATION.with_original(OriginalOutputs(lambda part: outputs))
    return cast(JobData, SimpleNamespace(dataset=dataset, job=job, task=task))


@pytest.mark.parametrize("seed", range(5))
def test_classes_in_another_order_are_recognised(seed: int) -> None:
    """A model that is right for three quarters of the examples, once its classes are matched."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=60)
    answers = np.where(rng.random(60) < 0.75, labels, rng.integers(5, size=60))
    order = np.array([1, 2, 3, 4, 0])
    check_class_order(data_of(answers, labels, ("agreement", "latency_ms")))
    with raises("job.unfit-data", "rename the classes"):
        check_class_order(data_of(order[answers], labels, ("agreement", "latency_ms")))
    check_class_order(data_of(order[answers], labels, ("accuracy", "latency_ms")))
    check_class_order(data_of(rng.integers(5, size=60), labels, ("agreement",)))  # it knows none of them


@pytest.mark.parametrize("seed", range(5))
def test_two_exchanged_classes_are_recognised(seed: int) -> None:
    """But not a model that has one class alone for another."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=100)
    answers = np.where(rng.random(100) < 0.85, labels, rng.integers(5, size=100))
    with raises("job.unfit-data", "'d' means 'e'"):
        check_class_order(data_of(np.array([0, 1, 2, 4, 3])[answers], labels, ("agreement",)))
    check_class_order(data_of(np.array([0, 1, 2, 3, 3])[answers], labels, ("agreement",)))
