"""The head of detectors without anchors: task-aligned assignment, quality focal loss and generalised IoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from supernets.tasks.detection.boxes import BOX, CLASS, CROWD, generalised_iou, pairwise_iou
from supernets.tasks.detection.head import DetectionHead

_N_SIDES = 4
_CANDIDATES = 13
"""Locations that are assigned to a box at most, as in TOOD."""
_CLASS_POWER, _OVERLAP_POWER = 1, 6
"""Exponents of score and overlap in the alignment of a location with a box, as in TOOD."""
_FOCUS = 2
"""Exponent of the error in the quality focal loss."""
_BOX_WEIGHT = 2.0
"""Weight of the loss of boxes beside that of classes, as in TOOD."""
_CONFIDENCE_POWER = 2
"""Exponent of a teacher's greatest score in the weight of a location, which leaves nothing of the background's."""


class Assignment(NamedTuple):
    """The predictions that locations should make.

    Attributes:
        scores: The score of each class, (n, locations, classes): for the class of the box that a location is assigned to, how
            well it is aligned with that box; else 0.
        boxes: The box of each location, (n, locations, 4); any for one that is assigned to none.
        counted: 0 for locations whose classes are ignored, else 1, (n, locations).
    """

    scores: Tensor
    boxes: Tensor
    counted: Tensor


class AnchorFreeHead(DetectionHead):
    """Boxes by their distances to a location, without anchors, as in FCOS (Tian et al. 2019, arXiv 1904.01355).

    A location's raw outputs are four numbers whose softplus is the distance, in strides, to the left, upper, right and lower
    side of a box, and the logit of each class. Locations lie at the centres of the squares of a level's stride.

    **Assignment** is task-aligned (TOOD, Feng et al. 2021, arXiv 2108.07755): each box gets the 13 locations in it with the
    greatest score × overlap⁶, and a location that several boxes get belongs to the one that it overlaps most. Departures: a box
    that is narrower than the stride of a level is as wide as that here, so that each box has a location; and
    locations in regions of many objects (crowds) that belong to no box are ignored.

    **Losses**: the quality focal loss (Li et al. 2020, arXiv 2006.04388) of classes, whose targets are TOOD's normalised
    alignment, and the generalised IoU (Rezatofighi et al. 2019, arXiv 1902.09630) of boxes with these targets as weights, as in
    TOOD. Departure: both are sums over the locations of an image divided by the sum of its own targets, at least 1, not by the
    batch's, so that an image's loss does not depend on the others.

    **Distillation** puts the teacher's scores and boxes in place of the assignment, with the same two losses (as CrossKD, Wang
    et al. 2023, arXiv 2306.11369, does, on other features). The weights are the squares of the teacher's greatest scores, so
    that the background counts where a subnet disagrees, and not in the sum by which the losses are divided. It is for trained
    teachers: from the first step of a training on, all networks learn more from the labels (`distill: none`, the default).

    Args:
        strides: Pixels of the image between neighbouring locations of each level, in the order of the outputs.
        image_size: Height and width of the images in pixels.
        n_classes: Number of classes.
    """

    def __init__(self, strides: Sequence[int], *, image_size: int, n_classes: int) -> None:
        self.strides, self.image_size, self.n_classes = tuple(strides), image_size, n_classes
        locations, stride_by_location = [], []
        for stride in strides:
            centres = (torch.arange(-(-image_size // stride)) + 0.5) * stride
            y, x = torch.meshgrid(centres, centres, indexing="ij")
            locations.append(torch.stack([x, y], -1).flatten(0, 1))
            stride_by_location.append(torch.full((len(centres) ** 2,), float(stride)))
        self.locations = torch.cat(locations)
        """(locations, 2): x and y in pixels."""
        self.stride_by_location = torch.cat(stride_by_location)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        boxes, logits = self._boxes(outputs), outputs[..., _N_SIDES:]
        with torch.no_grad():
            assignment = self.assigned(boxes, logits.sigmoid(), targets)
        return _losses(boxes, logits, assignment, assignment.scores.amax(-1))

    def distance(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        with torch.no_grad():
            scores = teacher[..., _N_SIDES:].sigmoid()
            target = Assignment(scores, self._boxes(teacher), torch.ones_like(scores[..., 0]))
        return _losses(
            self._boxes(outputs), outputs[..., _N_SIDES:], target, scores.amax(-1) ** _CONFIDENCE_POWER
        ).mean()

    def decoded(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        return self._boxes(outputs).clamp(0, self.image_size), outputs[..., _N_SIDES:].sigmoid()

    def _boxes(self, outputs: Tensor) -> Tensor:
        """Corners of the boxes of raw outputs in pixels, (n, locations, 4); they may lie outside of the image."""
        locations, strides = self.locations.to(outputs.device), self.stride_by_location.to(outputs.device)
        distances = functional.softplus(outputs[..., :_N_SIDES]) * strides[:, None]
        return torch.cat([locations - distances[..., :2], locations + distances[..., 2:]], -1)

    def encoded(self, boxes: Tensor) -> Tensor:
        """The raw outputs that are decoded to boxes, (n, locations, 4).

        Args:
            boxes: Corners in pixels, (n, locations, 4), of boxes that contain their locations.
        """
        distances = torch.cat([self.locations - boxes[..., :2], boxes[..., 2:] - self.locations], -1)
        return (distances / self.stride_by_location[:, None]).expm1().log()

    def assigned(self, boxes: Tensor, scores: Tensor, targets: Tensor) -> Assignment:
        """The task-aligned assignment of labelled boxes to locations.

        Args:
            boxes: Predicted boxes in pixels, (n, locations, 4).
            scores: Predicted scores of each class, (n, locations, classes).
            targets: Labelled boxes, (n, boxes, 8), see `supernets.tasks.detection.boxes`.
        """
        classes, corners = targets[..., CLASS], targets[..., BOX]
        crowds = (classes >= 0) & (targets[..., CROWD] > 0)
        inside = self._inside(corners)
        candidates = inside & ((classes >= 0) & ~crowds)[..., None]
        overlaps = pairwise_iou(corners, boxes)
        indices = classes.clamp(min=0).long()
        scores_of_class = scores.transpose(1, 2).gather(1, indices[..., None].expand_as(overlaps))
        alignment = scores_of_class**_CLASS_POWER * overlaps**_OVERLAP_POWER
        chosen = candidates & _top(torch.where(candidates, alignment, -1.0))
        owners = torch.where(chosen, overlaps, -1.0).argmax(1)
        chosen &= owners[:, None] == torch.arange(targets.shape[1], device=owners.device)[:, None]
        qualities = _normalised(alignment * chosen, overlaps * chosen).amax(1)
        one_hot = functional.one_hot(indices.gather(1, owners), self.n_classes)
        ignored = (inside & crowds[..., None]).any(1) & ~chosen.any(1)
        target_boxes = corners.gather(1, owners[..., None].expand(-1, -1, _N_SIDES))
        return Assignment(qualities[..., None] * one_hot, target_boxes, (~ignored).to(boxes.dtype))

    def _inside(self, corners: Tensor) -> Tensor:
        """A mask of the locations in each box, (n, boxes, locations); boxes are at least as wide and high as the stride."""
        centres, halves = (corners[..., :2] + corners[..., 2:]) / 2, (corners[..., 2:] - corners[..., :2]) / 2
        locations, strides = self.locations.to(corners.device), self.stride_by_location.to(corners.device)
        reach = torch.maximum(halves[:, :, None], strides[:, None] / 2)
        return ((locations - centres[:, :, None]).abs() <= reach).all(-1)

    def to_json(self) -> Mapping[str, Any]:
        return {
            "kind": "anchor-free",
            "strides": list(self.strides),
            "image_size": self.image_size,
            "n_classes": self.n_classes,
        }


def _losses(boxes: Tensor, logits: Tensor, target: Assignment, weights: Tensor) -> Tensor:
    """The losses of images, (n,).

    Args:
        boxes: Predicted boxes, (n, locations, 4).
        logits: Predicted classes, (n, locations, classes).
        target: What they should be.
        weights: Weights of the boxes, (n, locations), by whose sum over an image both losses are divided.
    """
    errors = (logits.sigmoid() - target.scores).abs() ** _FOCUS
    of_classes = errors * functional.binary_cross_entropy_with_logits(logits, target.scores, reduction="none")
    of_boxes = weights * (1 - generalised_iou(boxes, target.boxes))
    return (of_classes.sum(-1) * target.counted + _BOX_WEIGHT * of_boxes).sum(1) / weights.sum(1).clamp(min=1)


def _top(alignment: Tensor) -> Tensor:
    """A mask of the locations of the greatest alignment with each box, (n, boxes, locations)."""
    top = alignment.topk(min(_CANDIDATES, alignment.shape[-1])).indices
    return torch.zeros_like(alignment, dtype=torch.bool).scatter(-1, top, True)


def _normalised(alignment: Tensor, overlaps: Tensor) -> Tensor:
    """The alignment with each box, scaled so that its greatest value is the greatest overlap with the box."""
    peaks = alignment.amax(-1, keepdim=True)
    scales = overlaps.amax(-1, keepdim=True) / torch.where(peaks > 0, peaks, 1.0)
    return alignment * scales
