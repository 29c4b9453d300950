from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from supernets.data import Part
from supernets.tasks import CLASSIFICATION, Imitation
from supernets.tasks.agreement import OriginalOutputs
from supernets.tasks.divergence import divergence

PART = Part.of(torch.arange(4.0)[:, None], torch.zeros(4, dtype=torch.int64))


def test_agreement_is_the_share_of_equal_classes() -> None:
    original = np.array([[2, 1], [0, 3], [1, 0], [5, 4]], dtype=np.float32)
    outputs = np.array([[9, 1], [0, 3], [0, 1], [5, 4]], dtype=np.float32)
    for task in (Imitation(), CLASSIFICATION):
        score = task.score("agreement", outputs, original)
        assert (score.value, score.error) == (0.75, math.sqrt(0.75 * 0.25 / 4))
        assert score.examples.tolist() == [True, True, False, True]


def test_agreement_of_pixels_is_their_mean_share() -> None:
    rng = np.random.default_rng(0)
    original, outputs = rng.normal(size=(2, 3, 5, 4, 4)).astype(np.float32)
    score = Imitation().score("agreement", outputs, original)
    shares = [np.mean([a[:, i, j].argmax() == b[:, i, j].argmax() for i in range(4) for j in range(4)])
              for a, b in zip(outputs, original, strict=True)]  # fmt: skip
    assert np.allclose(score.examples, shares)
    assert math.isclose(score.value, np.mean(shares))
    assert math.isclose(score.error, np.std(shares, ddof=1) / math.sqrt(3))


def test_r2_is_one_less_the_relative_squared_error() -> None:
    rng = np.random.default_rng(0)
    original, noise = rng.normal(size=(2, 40, 3)).astype(np.float32)
    outputs = original + 0.3 * noise
    score = Imitation(of_classes=False).score("r2", outputs, original)
    expected = 1 - np.sum((outputs - original) ** 2) / np.sum((original - original.mean(0)) ** 2)
    assert math.isclose(score.value, expected, rel_tol=1e-5)
    assert math.isclose(score.examples.mean(), score.value, rel_tol=1e-9)
    assert Imitation(of_classes=False).score("r2", original, original).value == 1


def test_losses_are_of_the_most_likely_class_of_the_original() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, original = torch.randn(2, 6, 5, generator=generator)
    task = Imitation()
    expected = functional.cross_entropy(outputs, original.argmax(1), reduction="none")
    assert torch.equal(task.losses(outputs, original), expected)
    assert torch.equal(task.distance(outputs, original, "kl"), divergence("kl", outputs, original))
    pixels, originals = torch.randn(2, 6, 5, 2, 3, generator=generator)
    assert task.losses(pixels, originals).shape == (6,)
    by_pixel = [divergence("kl", pixels[:, :, i, j], originals[:, :, i, j]) for i in range(2) for j in range(3)]
    assert torch.allclose(task.distance(pixels, originals, "kl"), torch.stack(by_pixel).mean())
    numbers = Imitation(of_classes=False)
    assert torch.allclose(numbers.losses(outputs, original), 0.5 * ((outputs - original) ** 2).sum(1))
    assert [metric.name for metric in numbers.metrics] == ["r2"]


def test_the_original_runs_once_for_each_part() -> None:
    calls = []

    def compute(part: Part) -> torch.Tensor:
        calls.append(part.digest)
        return part.inputs * torch.tensor([1.0, -1.0])

    original = OriginalOutputs(compute)
    task, classifying = Imitation().with_original(original), CLASSIFICATION.with_original(original)
    for _ in range(2):
        labelled = task.examples("agreement", PART)
        assert torch.equal(labelled.labels, PART.inputs * torch.tensor([1.0, -1.0]))
        assert labelled.digest == PART.digest
        assert classifying.examples("agreement", PART) is labelled
        assert classifying.examples("accuracy", PART) is PART
    assert calls == [PART.digest]


def test_alike_outputs_have_the_same_class_or_value() -> None:
    first = np.array([[1, 0], [0, 1]], dtype=np.float32)
    assert Imitation().alike(first, np.array([[3, 2], [3, 2]], dtype=np.float32)).tolist() == [True, False]
    assert Imitation(of_classes=False).alike(first, first + np.float32(0.001)).tolist() == [True, True]
