"""Detection: boxes with a class and a score, scored by COCO's average precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.data import DataSet
from supernets.data.batching import Movements
from supernets.networks.capture.program import BATCH
from supernets.networks.family_program import View, ViewInput
from supernets.networks.network import viewed
from supernets.networks.suppression import Suppression, detections
from supernets.tasks.base import Score, Task
from supernets.tasks.detection.average_precision import (
    METRICS,
    area_range_of,
    average_precisions,
    n_counted_boxes,
    precision_recall,
    scored,
)
from supernets.tasks.detection.boxes import BOX, CLASS, CROWD, DETECTED_CLASS, SCORE, X0, X1, Y0, Y1, pairwise_iou
from supernets.tasks.detection.head import DetectionHead
from supernets.tasks.detection.heads import head_of
from supernets.tasks.divergence import Divergence
from supernets.tasks.illustration import Illustration, varied_examples

_CAPTURED_BATCH = 5
"""The batch size of captured inputs: no usual size of a layer."""
_SAME_IOU, _SAME_PIXEL, _SAME_SCORE, _CONFIDENT = 0.99, 0.01, 1e-4, 0.5
"""Overlap, or difference of corners in pixels, and difference of scores of the same detection by two runtimes, and the score
of detections that a user sees."""
_ALIKE_IOU = 0.9
_SHOWN_IMAGES, _SHOWN_DETECTIONS = 6, 30
_SHOWN_THRESHOLDS = (0, 5)
"""Positions in `average_precision.THRESHOLDS` of the curves that are shown: overlaps of 0.5 and 0.75."""


class Detection(Task):
    """COCO's average precision of the boxes that a network detects, and the losses of the head that decodes its outputs.

    Outputs in training are raw, (n, locations, numbers), as the head reads them; the outputs that are scored are detections
    after non-maximum suppression, (n, detections, 6), see `supernets.tasks.detection.boxes`. Network, decoding and suppression
    are one ONNX model, which is scored, timed and exported.

    Args:
        head: Losses and decoding of the networks' outputs; None where networks are not trained or called, but only scored.
        image: Channels and side of images; None before they are known.
        suppression: Settings of non-maximum suppression.
    """

    name = "detection"
    metrics = METRICS
    targets = "boxes"
    decodes = True
    illustrates = True
    needs_head = True
    verbs = ("detects objects in", "searched for objects")

    def __init__(
        self,
        head: DetectionHead | None = None,
        image: tuple[int, int] | None = None,
        suppression: Suppression | None = None,
    ) -> None:
        self._head, self._image, self.suppression = head, image, suppression or Suppression()

    @property
    def head(self) -> DetectionHead:
        """The head; `ValueError` where the networks have none."""
        if self._head is None:
            raise ValueError("a detector's networks have a head, which Detection.with_head takes")
        return self._head

    def for_data(self, data: DataSet) -> Self:
        return type(self)(self._head, (data.images.channels, data.images.image_size), self.suppression)

    def metric_problem(self, metric: str, data: DataSet) -> str | None:
        for name, part in (("validation", data.validation), ("test", data.test)):
            if not n_counted_boxes(metric, part.labels.numpy()):
                areas = area_range_of(metric)
                boxes = f"boxes with an area of {areas} pixels of the original image" if areas else "labelled boxes"
                return f"needs {boxes}, and the {name} part has none; take another metric, or a larger part"
        return None

    def with_head(self, facts: Mapping[str, Any] | None) -> Task:
        head = None if facts is None else head_of(facts)
        return type(self)(head, self._image, getattr(head, "suppression", None) or self.suppression)

    def n_outputs(self, data: DataSet) -> int:
        return data.n_classes

    def augmented(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator, *, flip: bool, pad: int
    ) -> tuple[Tensor, Tensor]:
        movements = Movements.draw(len(inputs), generator, flip=flip, pad=pad)
        return movements.moved(inputs), moved_boxes(targets, movements, inputs.shape[3])

    def scored(self, network: nn.Module) -> nn.Module:
        module = DecodedNetwork(network, self.head, self.suppression).train(network.training)
        return viewed(module, network, self._view())

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.head.losses(outputs, targets)

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        return self.head.distance(outputs, teacher.detach())

    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        return scored(metric, outputs, targets)

    def alike(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Images in which the detections of at least a score of one half are the same: one by one of the same class, with an
        overlap of at least 0.9."""
        pairs = zip(first, second, strict=True)
        return np.array([_same_objects(a[a[:, SCORE] >= _CONFIDENT], b[b[:, SCORE] >= _CONFIDENT]) for a, b in pairs])

    def aligned(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = [_aligned(a, b, self.suppression.threshold) for a, b in zip(outputs, reference, strict=True)]
        return np.stack(rows)

    def illustrated(self, outputs: NDArray[Any], targets: NDArray[Any], n_classes: int) -> Illustration:
        """The first 30 detections in six images, and tables by class: ``precision`` at each recall (2, classes, recalls), for
        overlaps of 0.5 and 0.75; ``average_precision`` by size (4, classes), as `average_precisions` has them; and the number
        of ``labelled`` boxes (classes,). NaN for classes without labelled boxes."""
        labels = targets[..., CLASS]
        shows = (labels[..., None] == np.arange(n_classes)).any(axis=1)
        examples = varied_examples(shows, _SHOWN_IMAGES)
        precision = [precision_recall(outputs, targets, n_classes, threshold=t) for t in _SHOWN_THRESHOLDS]
        by_size = average_precisions(outputs, targets, n_classes)
        is_counted = (labels >= 0) & (targets[..., CROWD] == 0)
        tables: dict[str, NDArray[Any]] = {
            "precision": np.stack(precision).astype(np.float32),
            "average_precision": np.stack(list(by_size.values())).astype(np.float32),
            "labelled": np.bincount(labels[is_counted].astype(np.int64), minlength=n_classes),
        }
        return Illustration(examples, outputs[examples, :_SHOWN_DETECTIONS], tables)

    def described(self, data: DataSet) -> Mapping[str, Any]:
        settings = self.suppression
        return {
            "kind": "boxes",
            "columns": ["left", "top", "right", "bottom", "score", "class"],
            "unit": "pixels of the network's input, after the letterbox; rows of score 0 are no detections",
            "score_threshold": settings.threshold,
            "iou_threshold": settings.iou,
            "candidates": settings.candidates,
            "pairs": settings.pairs,
            "detections": settings.detections,
            "head": dict(self.head.to_json()) if self._head is not None else {},
        }

    def _view(self) -> View:
        channels, side = self._image or (0, 0)
        example = torch.zeros(_CAPTURED_BATCH, channels, side, side)
        return View(
            "detections",
            lambda network: DecodedNetwork(network, self.head, self.suppression),
            lambda network: [ViewInput(example, (BATCH, "", "", ""))],
        )


class DecodedNetwork(nn.Module):
    """The detections of a network: images (n, c, h, w) -> (n, detections, 6)."""

    def __init__(self, network: nn.Module, head: DetectionHead, suppression: Suppression) -> None:
        super().__init__()
        self.network, self._head, self._suppression = network, head, suppression

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self._head.decoded(self.network(x))
        return detections(boxes, scores, self._suppression)


def moved_boxes(targets: Tensor, movements: Movements, side: int) -> Tensor:
    """Labelled boxes (n, boxes, 8) after the movements of their images, (n, boxes, 8): parts outside of the image are cut off,
    and boxes of which less than a pixel is left are gone."""
    moved = targets.clone()
    horizontal, vertical = targets[..., [X0, X1]], targets[..., [Y0, Y1]] + movements.down[:, None, None]
    horizontal = torch.where(movements.mirrored[:, None, None], side - horizontal.flip(2), horizontal)
    horizontal = horizontal + movements.right[:, None, None]
    moved[..., BOX] = torch.stack([horizontal, vertical], 3).flatten(2).clamp(0, side)
    width, height = moved[..., X1] - moved[..., X0], moved[..., Y1] - moved[..., Y0]
    is_inside = (width >= 1) & (height >= 1) & (targets[..., CLASS] >= 0)
    moved[..., CLASS] = torch.where(is_inside, targets[..., CLASS], -1.0)
    order = (~is_inside).long().argsort(dim=1, stable=True)  # padding comes last
    return moved.take_along_dim(order[..., None], 1)


def _same_objects(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    if len(first) != len(second):
        return False
    return bool(len(_matches(first, second, iou=_ALIKE_IOU, score=1.0)) == len(first))


def _matches(
    first: NDArray[np.float32], second: NDArray[np.float32], *, iou: float, score: float
) -> list[tuple[int, int]]:
    """The rows of detections (k, 6) and (m, 6) that are the same object, each used once, in the order of the first.

    Boxes whose corners are as near as a hundredth of a pixel count as equal: at the edge of an image, boxes may have no area.
    """
    overlaps = pairwise_iou(torch.from_numpy(first[:, :4]), torch.from_numpy(second[:, :4])).numpy().copy()
    overlaps[np.abs(first[:, None, :4] - second[None, :, :4]).max(axis=2) <= _SAME_PIXEL] = 1.0
    overlaps[first[:, None, DETECTED_CLASS] != second[None, :, DETECTED_CLASS]] = 0.0
    overlaps[np.abs(first[:, None, SCORE] - second[None, :, SCORE]) > score] = 0.0
    pairs = []
    for i in range(len(first)):
        j = int(overlaps[i].argmax()) if len(second) else 0
        if len(second) and overlaps[i, j] >= iou:
            pairs.append((i, j))
            overlaps[:, j] = 0.0
    return pairs


def _aligned(outputs: NDArray[np.float32], reference: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Detections (k, 6) in the order of others of the same image; see `Task.aligned`.

    Detections of both have an overlap of at least 0.99 and scores that differ by at most 1e-4. One that only one of them has
    counts as the same where its score is so near to the threshold, or to that of the last detection, that roundings decide.
    """
    present, expected = outputs[outputs[:, SCORE] > 0], reference[reference[:, SCORE] > 0]
    pairs = _matches(expected, present, iou=_SAME_IOU, score=_SAME_SCORE)
    last = min((rows[-1, SCORE] for rows in (outputs, reference)), default=0.0)
    negligible = max(threshold, float(last)) + _SAME_SCORE
    aligned = np.zeros_like(reference)
    for i, row in enumerate(expected):
        if row[SCORE] <= negligible:
            aligned[i] = row
    for i, j in pairs:
        aligned[i] = present[j]
    unmatched = sorted(set(range(len(present))) - {j for _, j in pairs})
    surplus = [present[j] for j in unmatched if present[j, SCORE] > negligible]
    for place, row in zip(range(len(aligned) - 1, -1, -1), surplus, strict=False):
        aligned[place] = row  # so that the difference shows
    return aligned
