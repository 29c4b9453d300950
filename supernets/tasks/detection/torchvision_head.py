"""Heads of torchvision's detectors of one stage: their anchors, assignment and losses, and decoding that can be exported."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.networks.capture.torchvision_dense import DenseModel
from supernets.networks.capture.two_stage import decoded_boxes
from supernets.networks.capture.user_model import library
from supernets.networks.suppression import Suppression
from supernets.tasks.detection.boxes import BOX, CLASS, CROWD
from supernets.tasks.detection.head import DetectionHead

_BOX, _CENTERNESS = 4, 1
"""Numbers of a location's box and centerness in raw outputs."""
CANDIDATES = 300
"""Locations that suppression compares."""


class RebuiltHead(DetectionHead):
    """The head of a detector of torchvision, which is built again without weights from its facts.

    Anchors, box coder and matchers are torchvision's own objects. Regions of crowds and boxes without area are left out of the
    labels.

    Args:
        name: Name of torchvision's function.
        classes: Number of classes of objects.
        arguments: Further arguments of the function.
        image_size: Height and width of images in pixels.

    Raises:
        CaptureError: torchvision is not installed.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, classes: int, arguments: Mapping[str, Any], image_size: int) -> None:
        self.dense, self.image_size = DenseModel(name, classes, arguments), image_size
        library("torchvision")
        _ = self.anchors  # with values: in a trace that calls `decoded` first, they would have none

    def __reduce__(self) -> tuple[Any, ...]:  # torchvision's objects are built again by other processes
        return type(self), (self.dense.name, self.dense.classes, self.dense.arguments, self.image_size)

    def to_json(self) -> Mapping[str, Any]:
        return {"kind": self.kind, **self.dense.to_json(), "image_size": self.image_size}

    @cached_property
    def detector(self) -> Any:
        """torchvision's detector without weights, on the device meta."""
        with torch.device("meta"):
            return self.dense.build().eval()

    @property
    @abstractmethod
    def anchor_generator(self) -> Any:
        """torchvision's anchor generator."""

    @cached_property
    def levels(self) -> list[tuple[int, int]]:
        """Height and width of each level's feature map."""
        with torch.no_grad(), torch.device("meta"):
            maps = self.detector.backbone(torch.zeros(1, 3, self.image_size, self.image_size))
        return [(level.shape[2], level.shape[3]) for level in maps.values()]

    @cached_property
    def anchors(self) -> Tensor:
        """The anchors of all levels, (locations, 4), corners in pixels."""
        image_list = library("torchvision").models.detection.image_list.ImageList
        side = self.image_size
        with torch.device("cpu"):
            images = image_list(torch.zeros(1, 3, side, side), [(side, side)])
            anchors: Tensor = self.anchor_generator(images, [torch.zeros(1, 1, *level) for level in self.levels])[0]
        return anchors

    def labels(self, rows: Tensor) -> dict[str, Tensor]:
        """The labelled boxes of an image (boxes, columns) as torchvision has them."""
        boxes = rows[:, BOX]
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(1)
        rows = rows[(rows[:, CLASS] >= 0) & (rows[:, CROWD] != 1) & has_area]
        return {"boxes": rows[:, BOX], "labels": rows[:, CLASS].long() + self.dense.has_background}


class TorchvisionHead(RebuiltHead):
    """Losses and decoding of a detector of one stage: SSD, RetinaNet or FCOS.

    Raw outputs are those of `supernets.networks.capture.torchvision_dense.JoinedDetector`, and losses those of torchvision,
    whose loss of a batch is the mean of the images': the loss of an image is its sum over anchors, divided by the mean number
    of foreground anchors of the batch's images where torchvision divides by their total (SSD, FCOS), and by the image's own
    number in RetinaNet.

    Departure from torchvision: the 300 locations with the likeliest classes are compared in suppression, in place of 300 to
    1,000 of each class or level.
    """

    kind = "torchvision"

    @cached_property
    def suppression(self) -> Suppression:
        """The thresholds of torchvision's detector."""
        return Suppression(float(self.detector.score_thresh), float(self.detector.nms_thresh), CANDIDATES, pairs=0)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        labels = [self.labels(rows) for rows in targets]
        anchors = self.anchors.to(outputs.device)
        parts = self._parts(outputs)
        matches = self._matches(parts, labels, anchors)
        losing = self.detector if self.dense.has_background else self.detector.head
        sums = []
        for i, (label, match) in enumerate(zip(labels, matches, strict=True)):
            image = {key: part[i : i + 1] for key, part in parts.items()}
            losses = losing.compute_loss([label], image, [anchors], [match])
            sums.append(torch.stack(list(losses.values())).sum())
        losses_by_image = torch.stack(sums)
        if self._is_retinanet:
            return losses_by_image
        foreground = torch.stack([(match >= 0).sum() for match in matches])
        return losses_by_image * foreground.clamp(min=1) * (len(outputs) / foreground.sum().clamp(min=1))

    def decoded(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        anchors = self.anchors.to(outputs.device)
        box, logits = outputs[..., :_BOX], outputs[..., self._first_class :]
        if self._is_fcos:
            sizes = anchors[:, 2:] - anchors[:, :2]
            centres, sides = 0.5 * (anchors[:, :2] + anchors[:, 2:]), box * torch.cat([sizes, sizes], -1)
            corners = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1)
            scores = torch.sqrt(torch.sigmoid(logits) * torch.sigmoid(outputs[..., _BOX : _BOX + _CENTERNESS]))
        else:
            coder = self.detector.box_coder
            corners = decoded_boxes(box, anchors, coder.weights, float(coder.bbox_xform_clip))
            is_softmax = self.dense.has_background
            scores = torch.softmax(logits, -1)[..., 1:] if is_softmax else torch.sigmoid(logits)
        return corners.clamp(0.0, float(self.image_size)), scores

    def distance(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """See `DetectionHead.distance`: the KL divergence of the classes' scores plus the smooth L1 distance of boxes (and the
        divergence of the centerness), weighted at each location by the teacher's largest score of a class."""
        with torch.no_grad():
            weight = self.decoded(teacher)[1].amax(-1)
        logits, teacher_logits = outputs[..., self._first_class :], teacher[..., self._first_class :]
        if self.dense.has_background:
            log_scores, teacher_log_scores = logits.log_softmax(-1), teacher_logits.log_softmax(-1)
            distance = (teacher_log_scores.exp() * (teacher_log_scores - log_scores)).sum(-1)
        else:
            distance = binary_divergence(logits, teacher_logits)
        if self._is_fcos:
            centerness = slice(_BOX, _BOX + _CENTERNESS)
            distance = distance + binary_divergence(outputs[..., centerness], teacher[..., centerness])
        boxes = functional.smooth_l1_loss(outputs[..., :_BOX], teacher[..., :_BOX], reduction="none").sum(-1)
        return ((weight * (distance + boxes)).sum(1) / weight.sum(1).clamp(min=1)).mean()

    @property
    def anchor_generator(self) -> Any:
        return self.detector.anchor_generator

    @property
    def _is_retinanet(self) -> bool:
        return self.dense.name.startswith("retinanet")

    @property
    def _is_fcos(self) -> bool:
        return self.dense.name.startswith("fcos")

    @property
    def _first_class(self) -> int:
        return _BOX + _CENTERNESS if self._is_fcos else _BOX

    def _parts(self, outputs: Tensor) -> dict[str, Tensor]:
        """Raw outputs as torchvision's heads return them."""
        parts = {"bbox_regression": outputs[..., :_BOX], "cls_logits": outputs[..., self._first_class :]}
        return {**parts, "bbox_ctrness": outputs[..., _BOX : _BOX + _CENTERNESS]} if self._is_fcos else parts

    def _matches(self, parts: dict[str, Tensor], labels: list[dict[str, Tensor]], anchors: Tensor) -> list[Tensor]:
        """The box of each anchor by its index, and less than 0 for none, (locations,) for each image."""
        detector, of_images = self._matching, [anchors] * len(labels)
        if self._is_fcos:
            matches: list[Tensor] = detector.compute_loss(labels, parts, of_images, [h * w for h, w in self.levels])
        elif self._is_retinanet:
            matches = detector.compute_loss(labels, parts, of_images)
        else:
            box_iou = library("torchvision").ops.box_iou
            matches = [
                detector.proposal_matcher(box_iou(label["boxes"], anchors))
                if len(label["boxes"])
                else torch.full((len(anchors),), -1, device=anchors.device)
                for label in labels
            ]
        return matches

    @cached_property
    def _matching(self) -> Any:
        """The detector, whose losses are its matches: torchvision assigns anchors in the middle of them."""
        detector = copy.copy(self.detector)
        detector._modules = {**detector._modules, "head": _Matches()}
        return detector


class _Matches(nn.Module):
    """A head in torchvision's sense that returns the matches of anchors in place of its losses."""

    def compute_loss(self, targets: Any, outputs: Any, anchors: Any, matches: list[Tensor]) -> list[Tensor]:
        return matches


def binary_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """The KL divergence of independent scores from a teacher's by their logits (n, locations, numbers), (n, locations)."""
    scores = teacher.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(teacher, scores, reduction="none")
    return (functional.binary_cross_entropy_with_logits(logits, scores, reduction="none") - entropy).sum(-1)
