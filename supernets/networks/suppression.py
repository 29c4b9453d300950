"""Detections of decoded boxes: those that no likelier box of their class overlaps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from supernets.errors import SupernetError
from supernets.networks.own_operations import own_operation

COLUMNS = 6
"""Columns of a detection: the four corners of its box, its score, its class."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """Settings of non-maximum suppression.

    Attributes:
        threshold: Minimum score of a detection (above it), from 0 to 1.
        iou: Intersection over union from which on (above it) a box is suppressed by a likelier one of its class.
        candidates: Number of locations that are compared: those with the likeliest classes.
        detections: Maximum number of detections of an image.
        pairs: Number of pairs of a location and a class that are compared, those of the highest scores; 0 for all. Suppression
            takes longer than a small network where each class is likely enough at each location.

    Raises:
        SupernetError: a value is out of its range.
    """

    threshold: float = 0.01
    iou: float = 0.6
    candidates: int = 300
    detections: int = 100
    pairs: int = 300

    def __post_init__(self) -> None:
        for name, share in (("threshold", self.threshold), ("iou", self.iou)):
            if not 0 <= share <= 1:
                raise SupernetError(f"{name} is {share}; expected a number from 0 to 1")
        for name, n, lowest in (
            ("candidates", self.candidates, 1),
            ("detections", self.detections, 1),
            ("pairs", self.pairs, 0),
        ):
            if n < lowest:
                raise SupernetError(f"{name} is {n}; expected at least {lowest}")


def detections(boxes: Tensor, scores: Tensor, settings: Suppression) -> Tensor:
    """The detections of each image, (n, detections, 6), see `suppressed`."""
    limits = settings.candidates, settings.detections, settings.pairs
    return suppressed(boxes, scores, settings.threshold, settings.iou, *limits)


def _shapes(
    boxes: Tensor, scores: Tensor, threshold: float, iou: float, candidates: int, n_detections: int, pairs: int
) -> Tensor:
    return boxes.new_empty((boxes.shape[0], n_detections, COLUMNS))


@own_operation(
    "(Tensor boxes, Tensor scores, float threshold, float iou, int candidates, int n_detections, int pairs) -> Tensor",
    _shapes,
)
@torch.no_grad()
def suppressed(
    boxes: Tensor, scores: Tensor, threshold: float, iou: float, candidates: int, n_detections: int, pairs: int
) -> Tensor:
    """The likeliest boxes of each image that no likelier box of the same class overlaps.

    Of equal scores the first location, then the first class comes first, as ONNX's ``TopK`` and ``NonMaxSuppression`` have it.

    Args:
        boxes: (n, locations, 4): left, top, right, bottom.
        scores: (n, locations, classes), from 0 to 1.
        threshold, iou, candidates, n_detections, pairs: See `Suppression`.

    Returns:
        (n, n_detections, 6): the box, its score and its class, by descending score; zeros where there are fewer.
    """
    if candidates < scores.shape[1]:
        _, chosen = scores.amax(2).sort(dim=1, descending=True, stable=True)
        chosen = chosen[:, :candidates, None]
        boxes, scores = boxes.take_along_dim(chosen, 1), scores.take_along_dim(chosen, 1)
    n_locations = scores.shape[1]
    if 0 < pairs < scores[0].numel():
        lowest = scores.flatten(1).topk(pairs, dim=1).values[:, -1, None, None]
        scores = torch.where(scores >= lowest, scores, 0.0)
    final = _kept_scores(boxes, scores.transpose(1, 2), threshold, iou, n_detections).flatten(1)
    final = functional.pad(final, (0, max(0, n_detections - final.shape[1])))
    ordered, order = final.sort(dim=1, descending=True, stable=True)
    score, chosen = ordered[:, :n_detections, None], order[:, :n_detections, None]
    chosen = torch.where(score > 0, chosen, 0)
    rows = torch.cat([boxes.take_along_dim(chosen % n_locations, 1), score, (chosen // n_locations).to(boxes.dtype)], 2)
    return torch.where(score > 0, rows, 0.0)


def _kept_scores(boxes: Tensor, scores: Tensor, threshold: float, iou: float, n_detections: int) -> Tensor:
    """The scores (n, classes, locations) of the boxes that stay; 0 for others. At most `n_detections` stay of each class."""
    overlaps = torch.empty(*boxes.shape[:2], boxes.shape[1], dtype=torch.bool, device=boxes.device)
    for i, image in enumerate(boxes):  # one by one, because of the memory of the pairs' values
        overlaps[i] = _overlaps(image) > iou
    left = torch.where(scores > threshold, scores, 0.0)
    final = torch.zeros_like(left)
    images = torch.arange(len(left), device=left.device)[:, None]
    for _ in range(min(n_detections, left.shape[2])):
        score, location = left.max(2)
        if not (score > 0).any():
            break
        final.scatter_reduce_(2, location[..., None], score[..., None], "amax")
        left = left.masked_fill(overlaps[images, location], 0.0).scatter(2, location[..., None], 0.0)
    return final


def _overlaps(boxes: Tensor) -> Tensor:
    """The intersection over union of all pairs of boxes (k, 4), (k, k); 0 of boxes without area."""
    left_top = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    right_bottom = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (right_bottom - left_top).clamp(min=0).prod(2)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    union = areas[:, None] + areas[None, :] - shared
    return torch.where(union > 0, shared / union, 0.0)
