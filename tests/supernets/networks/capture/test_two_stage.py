"""The stages of captured detectors of two stages beside torchvision's own: their proposals, and the features of these."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from supernets.networks.capture.torchvision_dense import DenseModel
from supernets.networks.capture.two_stage import TwoStageDetector

pytest.importorskip("torchvision", reason="torchvision is not installed (the extra download)")

SIDE, PROPOSALS, CANDIDATES = 128, 64, 40
ARGUMENTS = {"rpn_post_nms_top_n_test": PROPOSALS, "rpn_pre_nms_top_n_test": CANDIDATES, "rpn_score_thresh": 0.0}
SIZES = {"0": 16, "1": 8, "2": 4}


@cache
def detectors() -> tuple[Any, TwoStageDetector]:
    """torchvision's detector and ours, of the same modules."""
    torch.manual_seed(0)
    dense = DenseModel("fasterrcnn_mobilenet_v3_large_320_fpn", 2, ARGUMENTS)
    original = dense.build().eval()
    module = dense.module(original)
    assert isinstance(module, TwoStageDetector)
    return original, module


def corner_boxes(n: int) -> Tensor:
    """Boxes (n, proposals, 4) of all sizes, some below a pixel of their level, most of them at the edges of the image."""
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(n, PROPOSALS, 2, generator=generator) * 1.6 * SIDE - 0.3 * SIDE
    sides = torch.rand(n, PROPOSALS, 2, generator=generator) ** 3 * SIDE
    return torch.cat([first, first + sides], 2).clamp(0, SIDE)


def test_features_of_proposals_are_those_of_torchvision_at_the_edges_too() -> None:
    original, module = detectors()
    generator = torch.Generator().manual_seed(1)
    maps = {name: torch.randn(2, 6, size, size, generator=generator) for name, size in SIZES.items()}
    boxes = corner_boxes(2)
    expected = original.roi_heads.box_roi_pool(maps, list(boxes), [(SIDE, SIDE)] * 2)
    pooled = module._pooled(list(maps.values()), torch.cat([boxes, torch.ones(2, PROPOSALS, 1)], 2), SIDE)
    assert (expected == 0).any()  # samples outside of the image
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-4)


def test_no_level_lacks_proposals_because_another_has_the_likeliest() -> None:
    original, module = detectors()
    generator = torch.Generator().manual_seed(2)
    anchors = [corner_boxes(1)[0, :n] for n in (CANDIDATES, CANDIDATES, 7)]
    n_anchors = sum(map(len, anchors))
    logits = torch.randn(2, n_anchors, 1, generator=generator)
    logits[:, :CANDIDATES] += 10
    boxes = torch.randn(2, n_anchors, 4, generator=generator) * 0.2
    corners = original.rpn.box_coder.decode(boxes.flatten(0, 1), [torch.cat(anchors)] * 2).view(2, n_anchors, 4)
    expected, scores = original.rpn.filter_proposals(corners, logits, [(SIDE, SIDE)] * 2, list(map(len, anchors)))
    proposals = module._proposals(logits, boxes, anchors, SIDE)
    for rows, image, image_scores in zip(proposals, expected, scores, strict=True):
        rows = rows[rows[:, 4] > 0]
        assert len(image) > CANDIDATES // 2
        torch.testing.assert_close(rows[:, :4], image)
        torch.testing.assert_close(rows[:, 4], image_scores)
