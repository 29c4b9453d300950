import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from supernets.data import load_data
from supernets.tasks import CLASSIFICATION, Classification
from supernets.tasks.divergence import divergence


def test_the_score_is_the_accuracy_with_its_binomial_error() -> None:
    outputs = np.array([[2, 1], [0, 3], [1, 0], [5, 4]], dtype=np.float32)
    score = CLASSIFICATION.score("accuracy", outputs, np.array([0, 1, 1, 0]))
    assert (score.value, score.error) == (0.75, math.sqrt(0.75 * 0.25 / 4))
    assert score.examples.tolist() == [True, True, False, True]


def test_a_share_of_all_or_none_is_not_certain() -> None:
    """By Wilson's formula with one standard error, written out: its half width is (1 / (1 + 1 / n)) sqrt(1 / (4 n^2))."""
    n = 112
    outputs = np.eye(2, dtype=np.float32)[np.zeros(n, dtype=int)]
    for target in (0, 1):
        score = CLASSIFICATION.score("accuracy", outputs, np.full(n, target))
        assert score.value == 1 - target
        assert math.isclose(score.error, 1 / (1 + 1 / n) * math.sqrt(1 / (4 * n * n)))


def test_loss_and_distance_are_those_of_earlier_versions_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, teacher = torch.randn(2, 33, 10, generator=generator)
    targets = torch.randint(10, (33,), generator=generator)
    for reduction in ("mean", "sum"):
        expected = functional.cross_entropy(outputs, targets, reduction=reduction)
        assert torch.equal(CLASSIFICATION.loss(outputs, targets, reduction=reduction), expected)  # type: ignore[arg-type]
    for name in ("kl", "alpha"):
        found = CLASSIFICATION.distance(outputs, teacher, name)  # type: ignore[arg-type]
        assert torch.equal(found, divergence(name, outputs, teacher))  # type: ignore[arg-type]


def test_outputs_are_alike_where_they_give_the_same_class() -> None:
    one, two = np.array([[2, 1], [0, 3]], dtype=np.float32), np.array([[9, 8], [1, 0]], dtype=np.float32)
    assert CLASSIFICATION.alike(one, two).tolist() == [True, False]


def test_balanced_weights_raise_the_balanced_accuracy_of_rare_digits() -> None:
    data = load_data("digits", validation=0.25, test=0.25, seed=0)
    labels, generator = data.train.labels, torch.Generator().manual_seed(0)
    is_kept = (labels < 5) | (torch.rand(len(labels), generator=generator) < 0.05)
    data = replace(data, train=replace(data.train, inputs=data.train.inputs[is_kept], labels=labels[is_kept]))
    values = []
    for task in (Classification(), Classification(class_weights="balanced").for_data(data)):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
        for _ in range(50):
            optimizer.zero_grad()
            task.loss(network(data.train.inputs), data.train.labels).backward()
            optimizer.step()
        outputs = network(data.validation.inputs).detach().numpy()
        values.append(task.score("balanced_accuracy", outputs, data.validation.labels.numpy()).value)
    assert values[1] > values[0] + 0.05, values


def test_weights_count_as_repeated_examples() -> None:
    data = load_data("digits", validation=0.25, test=0.25, seed=0)
    labels = data.train.labels
    outputs = torch.randn(len(labels), 10, generator=torch.Generator().manual_seed(0))
    task = Classification(class_weights=[3.0, 2.0, *[1.0] * 8]).for_data(data)
    repeats = torch.tensor([3, 2, *[1] * 8])[labels]
    expected = functional.cross_entropy(outputs.repeat_interleave(repeats, 0), labels.repeat_interleave(repeats))
    torch.testing.assert_close(task.loss(outputs, labels), expected)
    torch.testing.assert_close(task.loss(outputs, labels, reduction="sum"), expected * len(labels))
