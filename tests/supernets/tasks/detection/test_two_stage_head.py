"""Losses, boxes and scores of captured detectors of two stages are those of torchvision's own modules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from supernets.networks.suppression import detections
from supernets.tasks.detection.boxes import DETECTED_CLASS, SCORE
from supernets.tasks.detection.heads import head_of
from supernets.tasks.detection.two_stage_head import TwoStageHead
from tests.supernets.tasks.detection.test_torchvision_head import as_torchvision_has_them, detector, labels

pytest.importorskip("torchvision", reason="torchvision is not installed (the extra download)")

SIZE, CLASSES, PROPOSALS, COMPARED = 64, 3, 20, 10
WHOLE = {"rpn_batch_size_per_image": 10**6, "box_batch_size_per_image": 10**6, "box_positive_fraction": 0.5}
"""Arguments by which torchvision draws all anchors and proposals."""


def head(arguments: dict[str, float]) -> TwoStageHead:
    facts = {
        "kind": "torchvision-two-stage",
        "name": "fasterrcnn_mobilenet_v3_large_320_fpn",
        "classes": CLASSES,
        "arguments": {"rpn_post_nms_top_n_test": PROPOSALS, **arguments},
        "image_size": SIZE,
    }
    made = head_of(facts)
    assert isinstance(made, TwoStageHead)
    return made


def raw_outputs(of: TwoStageHead, n: int, seed: int = 0) -> Tensor:
    """Raw outputs with proposals around the labelled boxes of the first two images, and rows without a proposal."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.tensor([[3.0, 5, 30, 40], [20, 5, 60, 60], [10, 10, 29, 24], [40, 40, 60, 62]])
    corners = places.repeat(n, PROPOSALS // 4, 1) + torch.rand(n, PROPOSALS, 4, generator=generator) * 4 - 2
    proposals = torch.cat([corners, torch.ones(n, PROPOSALS, 1)], 2)
    proposals[:, -2:] = 0
    numbers = PROPOSALS * 5 * (CLASSES + 1) + 5 * len(of.anchors)
    others = torch.randn(n, numbers, generator=generator)
    return torch.cat([proposals.flatten(1), others], 1)[:, None]


def test_losses_are_those_of_torchvision_where_it_draws_all_examples() -> None:
    from torchvision.models.detection.roi_heads import fastrcnn_loss

    of = head(WHOLE)
    outputs, targets, module = raw_outputs(of, 3).requires_grad_(), as_torchvision_has_them(of), detector(of)
    proposals, logits, boxes, anchor_logits, anchor_boxes = of._layout.split(outputs)
    anchors, rpn, roi = [of.anchors] * 3, module.rpn, module.roi_heads
    kinds, matched = rpn.assign_targets_to_anchors(anchors, targets)
    first = rpn.compute_loss(
        anchor_logits.reshape(-1, 1), anchor_boxes.reshape(-1, 4), kinds, rpn.box_coder.encode(matched, anchors)
    )
    corners = [rows[:-2, :4].detach() for rows in proposals]
    matches, classes = roi.assign_targets_to_proposals(
        corners, [target["boxes"] for target in targets], [target["labels"] for target in targets]
    )
    label_boxes = [
        target["boxes"][match] if len(target["boxes"]) else torch.zeros(len(match), 4)
        for target, match in zip(targets, matches, strict=True)
    ]
    second = fastrcnn_loss(
        logits[:, :-2].flatten(0, 1),
        boxes[:, :-2].flatten(0, 1).flatten(1),
        classes,
        roi.box_coder.encode(label_boxes, corners),
    )
    losses = of.losses(outputs, labels())
    torch.testing.assert_close(losses.mean(), sum((*first, *second)), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(losses.sum(), outputs)
    assert losses.shape == (3,)
    assert gradient.isfinite().all()


def test_losses_are_the_mean_of_those_of_torchvisions_draws() -> None:
    of = head({"rpn_batch_size_per_image": 24})
    outputs, targets, module = raw_outputs(of, 2), as_torchvision_has_them(of)[:2], detector(of)
    *_, anchor_logits, anchor_boxes = of._layout.split(outputs)
    rpn, anchors = module.rpn, [of.anchors] * 2
    kinds, matched = rpn.assign_targets_to_anchors(anchors, targets)
    codes = rpn.box_coder.encode(matched, anchors)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [
            sum(rpn.compute_loss(anchor_logits.reshape(-1, 1), anchor_boxes.reshape(-1, 4), kinds, codes))
            for _ in range(800)
        ]
    without = outputs.clone()
    without[..., 4 : 5 * PROPOSALS : 5] = 0  # the second stage has no proposals, and no losses
    values = torch.stack(draws)
    error = float(values.std() / len(draws) ** 0.5)
    assert float(of.losses(without, labels()[:2]).mean()) == pytest.approx(float(values.mean()), abs=4 * error)


def test_detections_are_those_of_torchvision() -> None:
    of = head({})
    outputs, module = raw_outputs(of, 2, seed=1), detector(of)
    proposals, logits, boxes, _, _ = of._layout.split(outputs)
    expected = module.roi_heads.postprocess_detections(
        logits[:, :-2].flatten(0, 1),
        boxes[:, :-2].flatten(0, 1).flatten(1),
        [rows[:-2, :4] for rows in proposals],
        [(SIZE, SIZE)] * 2,
    )
    found, first = detections(*of.decoded(outputs), of.suppression), slice(COMPARED)
    for rows, image_boxes, scores, classes in zip(found, *expected, strict=True):
        assert int((rows[:, SCORE] > 0).sum()) == len(scores) > COMPARED
        torch.testing.assert_close(rows[first, :4], image_boxes[first], rtol=0, atol=1e-4)
        torch.testing.assert_close(rows[first, SCORE], scores[first], rtol=0, atol=1e-6)
        assert rows[first, DETECTED_CLASS].tolist() == (classes[first] - 1).tolist()


def test_the_distance_is_zero_for_equal_outputs_alone() -> None:
    of = head({})
    teacher = raw_outputs(of, 2)
    assert of.distance(teacher, teacher) == pytest.approx(0.0, abs=1e-5)
    student = (teacher + 0.1 * torch.randn(teacher.shape, generator=torch.Generator().manual_seed(5))).requires_grad_()
    distance = of.distance(student, teacher)
    (gradient,) = torch.autograd.grad(distance, student)
    assert distance.item() > 0.01
    assert gradient.isfinite().all()
