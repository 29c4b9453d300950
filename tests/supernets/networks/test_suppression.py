"""Suppression against a loop over single boxes, and as ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardware_profiles.runtime import run_model
from supernets.errors import SupernetError
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.networks.suppression import Suppression, detections

CLASSES = 3
SETTINGS = [
    Suppression(threshold=0.3, iou=0.5, candidates=300, detections=100),
    Suppression(threshold=0.01, iou=0.6, candidates=40, detections=60),
    Suppression(threshold=0.9, iou=0.0, candidates=5, detections=100),
    Suppression(threshold=0.2, iou=0.5, candidates=300, detections=50, pairs=70),
    Suppression(threshold=0.01, iou=0.6, candidates=200, detections=100, pairs=0),
    Suppression(threshold=0.001, iou=1.0, candidates=50, detections=7),
]


class Boxes(nn.Module):
    """Reads boxes and scores out of its input (n, locations, 7)."""

    def __init__(self, settings: Suppression) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, x: Tensor) -> Tensor:
        corner, size = x[..., :2] * 20, x[..., 2:4].abs() * 30
        return detections(torch.cat([corner, corner + size], 2), x[..., 4:].sigmoid(), self.settings)


def random_inputs(n_locations: int) -> Tensor:
    x = torch.randn(6, n_locations, 4 + CLASSES, generator=torch.Generator().manual_seed(n_locations))
    x[0, :, 4:] = -20.0  # an image of nothing
    x[1, : n_locations // 2] = x[1, 0]  # copies
    x[2, :, 2] = 0.0  # boxes without area
    return x


def one_by_one(x: Tensor, settings: Suppression) -> NDArray[np.float32]:
    """The detections of an image (locations, 7), box by box in plain Python."""
    corner = x[:, :2] * 20
    boxes = torch.cat([corner, corner + x[:, 2:4].abs() * 30], 1).tolist()
    scores = x[:, 4:].sigmoid().tolist()
    likeliest = sorted(range(len(boxes)), key=lambda i: -max(scores[i]))[: settings.candidates]
    ranked = sorted((scores[i][label] for i in likeliest for label in range(CLASSES)), reverse=True)
    lowest = ranked[min(settings.pairs or len(ranked), len(ranked)) - 1]
    rows = []
    for label in range(CLASSES):
        kept: list[int] = []
        for i in sorted(likeliest, key=lambda i: -scores[i][label]):
            is_free = all(iou(boxes[i], boxes[j]) <= settings.iou for j in kept)
            if (
                is_free
                and scores[i][label] >= lowest
                and scores[i][label] > settings.threshold
                and len(kept) < settings.detections
            ):
                kept.append(i)
        rows += [[*boxes[i], scores[i][label], label] for i in kept]
    rows.sort(key=lambda row: -row[4])
    padding = [[0.0] * 6] * settings.detections
    return np.array((rows + padding)[: settings.detections], dtype=np.float32)


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("n_locations", [1, 300])
def test_detections_are_those_of_a_loop_and_of_onnx(settings: Suppression, n_locations: int) -> None:
    x, module = random_inputs(n_locations), Boxes(settings).eval()

    rows = module(x).numpy()

    expected = np.stack([one_by_one(image, settings) for image in x])
    # Copies are interchangeable, and rounding decides between almost equal scores.
    np.testing.assert_allclose(rows[..., 4], expected[..., 4], atol=1e-6)
    np.testing.assert_allclose(rows.sum(1), expected.sum(1), rtol=1e-4, atol=1e-3)
    (in_onnx,) = run_model(lower(module, x[:2]), {INPUT: x.numpy()})
    np.testing.assert_allclose(in_onnx, rows, atol=1e-4)


def test_settings_out_of_their_range_are_rejected() -> None:
    with pytest.raises(SupernetError, match=r"iou is 1\.5; expected a number from 0 to 1"):
        Suppression(iou=1.5)
    with pytest.raises(SupernetError, match="detections is 0; expected at least 1"):
        Suppression(detections=0)
