import math

import numpy as np
import torch
from torch.nn import functional

from supernets.tasks import CLASSIFICATION
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
