"""The task of segmentation: losses, movements, metrics against a confusion matrix by hand, and the network with its argmax."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn
from torch.nn import functional

from hardware_profiles.runtime import run_model
from supernets.data.targets import IGNORED
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.tasks import Segmentation
from supernets.tasks.segmentation import confusion_of_classes, iou_by_class

TASK = Segmentation()
_Bytes = NDArray[np.uint8]


def maps(seed: int, n: int, *, n_classes: int = 5, side: int = 12) -> tuple[_Bytes, _Bytes]:
    """Class maps with 30 % of errors, and their masks, with ignored pixels; images show two or three of the classes."""
    rng = np.random.default_rng(seed)
    of_image = np.stack([rng.permutation(n_classes)[:3] for _ in range(n)])
    masks = of_image[np.arange(n)[:, None, None], rng.integers(0, 3, (n, side, side))].astype(np.uint8)
    noise = rng.integers(0, n_classes, masks.shape)
    outputs = np.where(rng.random(masks.shape) < rng.uniform(0, 0.6, (n, 1, 1)), noise, masks).astype(np.uint8)
    masks[rng.random(masks.shape) < 0.1] = IGNORED
    return outputs, masks


def values(outputs: _Bytes, masks: _Bytes) -> tuple[float, float, NDArray[np.float64]]:
    """The mean intersection over union, the accuracy of pixels and the confusion matrix by scikit-learn's matrix."""
    counted = masks != IGNORED
    matrix = confusion_matrix(masks[counted], outputs[counted], labels=range(5)).astype(float)
    shown = matrix.sum(1) > 0
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    return float(iou[shown].mean()), float(np.diag(matrix).sum() / matrix.sum()), matrix


def test_metrics_are_those_of_a_confusion_matrix() -> None:
    outputs, masks = maps(0, 150)
    masks[masks == 3] = IGNORED  # a class that no mask shows, and class maps have
    miou, accuracy, matrix = values(outputs, masks)
    assert TASK.score("miou", outputs, masks).value == pytest.approx(miou, abs=1e-12)
    assert TASK.score("pixel_accuracy", outputs, masks).value == pytest.approx(accuracy, abs=1e-12)
    assert (confusion_of_classes(outputs, masks, 5) == matrix).all()
    by_class = iou_by_class(outputs, masks, 6)
    assert np.isnan(by_class[[3, 5]]).all()
    assert np.nanmean(by_class) == pytest.approx(miou, abs=1e-12)


@pytest.mark.parametrize("metric", ["miou", "pixel_accuracy"])
def test_errors_are_the_jackknifes(metric: str) -> None:
    outputs, masks = maps(1, 80)
    score, n = TASK.score(metric, outputs, masks), len(masks)
    without = [values(np.delete(outputs, i, 0), np.delete(masks, i, 0))[metric == "pixel_accuracy"] for i in range(n)]
    pseudo = n * score.value - (n - 1) * np.array(without)
    assert np.corrcoef(pseudo, score.examples)[0, 1] > 0.999
    assert score.error == pytest.approx(pseudo.std(ddof=1) / n**0.5, rel=0.02)
    assert score.examples.mean() == pytest.approx(score.value)


def test_errors_of_perfect_maps_are_not_zero_and_ignored_images_have_no_score() -> None:
    outputs, masks = maps(2, 20)
    masks[masks == IGNORED] = 0
    score = TASK.score("miou", masks, masks)
    assert (score.value, score.error) == (1.0, pytest.approx(0.5 / 21))
    assert np.isnan(TASK.score("miou", outputs, np.full_like(masks, IGNORED)).value)


def test_losses_are_means_over_counted_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 5, generator=generator)
    masks = torch.randint(0, 4, (3, 5, 5), generator=generator).to(torch.uint8)
    masks[1, 2:], masks[2] = IGNORED, IGNORED
    losses = TASK.losses(logits, masks)
    expected = functional.cross_entropy(logits[1, :, :2].flatten(1).T, masks[1, :2].flatten().long())
    torch.testing.assert_close(losses[1], expected)
    assert losses[2] == 0
    teacher = torch.randn(3, 4, 5, 5, generator=generator)
    p, q = teacher.softmax(1), logits.softmax(1)
    torch.testing.assert_close(TASK.distance(logits, teacher, "kl"), (p * (p / q).log()).sum(1).mean())


def test_masks_move_with_their_images() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.randint(0, 7, (40, 16, 16), generator=generator).to(torch.uint8)
    images, moved = TASK.augmented(masks[:, None].float(), masks, generator, flip=True, pad=4)
    counted = moved != IGNORED
    assert (images[:, 0].to(torch.uint8) == moved)[counted].all()
    assert 0.6 < counted.float().mean() < 0.9
    assert (masks < 7).all()


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.conv(x)[:, :, ::2, ::2], size=x.shape[2:], mode="bilinear")


def test_the_network_that_is_scored_gives_bytes_in_onnx() -> None:
    torch.manual_seed(0)
    network, x = TASK.scored(Head().eval()), torch.randn(4, 3, 10, 10)
    (outputs,) = run_model(onnx_model(network, x[:2]), {INPUT: x.numpy()})
    expected = network(x).numpy()
    assert outputs.dtype == expected.dtype == np.uint8
    assert outputs.shape == (4, 10, 10)
    assert (TASK.aligned(outputs, expected) == expected).all()


def test_single_pixels_are_the_references_and_many_are_not() -> None:
    reference = np.zeros((2, 40, 40), dtype=np.uint8)
    outputs = reference.copy()
    outputs[0, 0, 0], outputs[1, :4] = 1, 1
    assert (TASK.aligned(outputs, reference)[0] == 0).all()
    assert (TASK.aligned(outputs, reference)[1] == outputs[1]).all()
    assert TASK.alike(outputs, reference).tolist() == [True, False]
