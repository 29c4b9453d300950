"""The head of torchvision's detectors of two stages: both stages' assignment and losses, and decoding that can be exported."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from supernets.networks.capture.two_stage import Layout, decoded_boxes, proposal_settings
from supernets.networks.suppression import Suppression
from supernets.tasks.detection.boxes import pairwise_iou
from supernets.tasks.detection.torchvision_head import CANDIDATES, RebuiltHead, binary_divergence

_BETA = 1 / 9
"""The bound of squared differences in the smooth L1 losses of both stages, as in torchvision."""
_MIN_SIDE = 1e-2
"""Detections with a shorter side, in pixels, are none, as in torchvision."""
_SAME_PROPOSAL = 0.5
"""Overlap from which on a teacher's proposal is compared with a subnet's."""


class TwoStageHead(RebuiltHead):
    """Losses and decoding of a Faster R-CNN; raw outputs are those of `supernets.networks.capture.two_stage`.

    The losses of a batch have as their mean the sum of torchvision's losses of objectness, of anchors' boxes, of classes and of
    their boxes. Anchors and proposals are assigned by torchvision's matchers.

    Departures from torchvision: it draws 256 anchors and 512 proposals of each image at random, where the losses here are the
    mean over all that it could draw, each weighted by the probability to be drawn; and the labelled boxes are not among the
    proposals.
    """

    kind = "torchvision-two-stage"

    @property
    def anchor_generator(self) -> Any:
        return self.detector.rpn.anchor_generator

    @cached_property
    def suppression(self) -> Suppression:
        """The thresholds of torchvision's detector."""
        roi = self.detector.roi_heads
        n_detections = int(roi.detections_per_img)
        return Suppression(float(roi.score_thresh), float(roi.nms_thresh), CANDIDATES, n_detections, pairs=0)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        proposals, logits, boxes, anchor_logits, anchor_boxes = self._layout.split(outputs)
        anchors, labels = self.anchors.to(outputs.device), [self.labels(rows) for rows in targets]
        rpn, roi = self.detector.rpn, self.detector.roi_heads
        kinds, label_boxes = rpn.assign_targets_to_anchors([anchors] * len(labels), labels)
        first, second = [], []
        for i, label in enumerate(labels):
            weight = _probabilities(kinds[i], rpn.fg_bg_sampler)
            scores = functional.binary_cross_entropy_with_logits(
                anchor_logits[i], kinds[i].clamp(min=0), reduction="none"
            )
            is_object = kinds[i] >= 1
            codes = rpn.box_coder.encode_single(label_boxes[i][is_object], anchors[is_object])
            differences = _differences(anchor_boxes[i][is_object], codes)
            first.append(torch.stack([(weight * scores).sum() + (weight[is_object] * differences).sum(), weight.sum()]))

            corners = proposals[i, :, :4].detach()
            (matches,), (classes,) = roi.assign_targets_to_proposals([corners], [label["boxes"]], [label["labels"]])
            classes = torch.where(proposals[i, :, 4] > 0, classes, -1)
            weight = _probabilities(classes, roi.fg_bg_sampler)
            scores = functional.cross_entropy(logits[i], classes.clamp(min=0), reduction="none")
            is_object = classes >= 1
            codes = roi.box_coder.encode_single(label["boxes"][matches[is_object]], corners[is_object])
            differences = _differences(boxes[i][is_object, classes[is_object]], codes)
            second.append(
                torch.stack([(weight * scores).sum() + (weight[is_object] * differences).sum(), weight.sum()])
            )
        return _shares(torch.stack(first)) + _shares(torch.stack(second))

    def decoded(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """See `DetectionHead.decoded`: each class of each proposal is a location of its own, (n, proposals * classes, ...)."""
        proposals, logits, boxes, _, _ = self._layout.split(outputs)
        corners = self._corners(proposals, boxes)[:, :, 1:]
        is_box = (corners[..., 2:] - corners[..., :2]).amin(-1) >= _MIN_SIDE
        scores = torch.softmax(logits, -1)[..., 1:] * is_box * (proposals[..., 4:] > 0)
        of_class = torch.eye(self.dense.classes, dtype=scores.dtype, device=scores.device)
        return corners.flatten(1, 2), (scores.unsqueeze(-1) * of_class).flatten(1, 2)

    def distance(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """See `DetectionHead.distance`. Anchors are compared by their objectness and boxes, weighted by the teacher's
        objectness; a proposal with the teacher's proposal that overlaps it most, by at least a half, by the KL divergence of
        classes and the corners of the teacher's class, in sides of its proposal, weighted by the teacher's largest score."""
        proposals, logits, boxes, anchor_logits, anchor_boxes = self._layout.split(outputs)
        with torch.no_grad():
            expected, expected_logits, expected_boxes, teacher_logits, teacher_boxes = self._layout.split(teacher)
            objectness = teacher_logits.sigmoid()
            overlaps, partners = pairwise_iou(proposals[..., :4], expected[..., :4]).max(-1)
            expected_corners = self._corners(expected, expected_boxes)
            expected, expected_logits = (x.take_along_dim(partners[..., None], 1) for x in (expected, expected_logits))
            scores = expected_logits.softmax(-1)
            confidence, likeliest = scores[..., 1:].max(-1)
            confidence = confidence * (overlaps >= _SAME_PROPOSAL)
            expected_corners = expected_corners.take_along_dim(partners[..., None, None], 1)
            of_class = (likeliest + 1)[..., None, None]
            sides = (expected[..., 2:4] - expected[..., :2]).clamp(min=1).repeat(1, 1, 2)
        first = binary_divergence(anchor_logits[..., None], teacher_logits[..., None])
        first = first + _differences(anchor_boxes, teacher_boxes)
        second = (scores * (expected_logits.log_softmax(-1) - logits.log_softmax(-1))).sum(-1)
        corners = self._corners(proposals, boxes).take_along_dim(of_class, 2)[:, :, 0]
        second = second + _differences(corners / sides, expected_corners.take_along_dim(of_class, 2)[:, :, 0] / sides)
        pairs = ((first, objectness), (second, confidence))
        means = [(weight * distance).sum(1) / weight.sum(1).clamp(min=1) for distance, weight in pairs]
        return (means[0] + means[1]).mean()

    @cached_property
    def _layout(self) -> Layout:
        return Layout(proposal_settings(self.detector).detections, self.dense.classes + 1)

    def _corners(self, proposals: Tensor, boxes: Tensor) -> Tensor:
        """The box of each class of each proposal by its corners, (n, proposals, classes, 4)."""
        coder = self.detector.roi_heads.box_coder
        anchors = proposals[..., None, :4].detach()
        corners = decoded_boxes(boxes, anchors, coder.weights, float(coder.bbox_xform_clip))
        return corners.clamp(0.0, float(self.image_size))


def _probabilities(kinds: Tensor, sampler: Any) -> Tensor:
    """The probability of each example to be drawn by torchvision's `BalancedPositiveNegativeSampler`, (examples,).

    Args:
        kinds: (examples,): at least 1 for objects, 0 for the background, -1 for none of both.
    """
    is_object, is_background = kinds >= 1, kinds == 0
    n_objects, n_background = is_object.sum(), is_background.sum()
    size = sampler.batch_size_per_image
    drawn_objects = n_objects.clamp(max=int(size * sampler.positive_fraction))
    drawn_background = torch.minimum(n_background, size - drawn_objects)
    share = is_object * (drawn_objects / n_objects.clamp(min=1))
    return share + is_background * (drawn_background / n_background.clamp(min=1))


def _shares(sums: Tensor) -> Tensor:
    """Losses of images (n,) whose mean is the sum of the batch's losses over its weights; of rows (n, 2) with both of each."""
    return sums[:, 0] * len(sums) / sums[:, 1].sum().clamp(min=1)


def _differences(boxes: Tensor, expected: Tensor) -> Tensor:
    """The smooth L1 distances of boxes (..., 4), (...)."""
    return functional.smooth_l1_loss(boxes, expected, beta=_BETA, reduction="none").sum(-1)
