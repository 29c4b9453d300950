"""torchvision's detectors of two stages as networks of fixed shapes: they have a fixed number of proposals."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.errors import CaptureError
from supernets.networks.own_operations import recording
from supernets.networks.suppression import Suppression, detections

_STRIDE = 32
"""The images of detectors with a feature pyramid have sides of multiples of this; torchvision pads others."""
_MIN_SIDE = 1e-3
"""Proposals with a shorter side, in pixels, are no proposals, as in torchvision."""
_BOX = 4


class TwoStageDetector(nn.Module):
    """A Faster R-CNN: images (n, c, s, s) to raw outputs (n, 1, numbers).

    The first stage proposes a fixed number of boxes: those that torchvision's suppression leaves of the likeliest anchors, and
    rows of zeros where there are fewer. Their features are pooled as `torchvision.ops.roi_align` does, from an atlas: the maps
    of the feature pyramid below one another, so that one sampling serves the proposals of all levels. Branches of masks and
    keypoints are left out.

    Departures from torchvision: the anchors of all levels share one limit on their number before suppression, the sum of the
    levels' limits, and training sees these proposals, too, without the labelled boxes among them.

    The numbers of an image are, one after another (`Layout.split`): the proposals with their scores, the logits of classes
    (the background first) and the boxes of classes of each proposal, and the logit and the box of each anchor.

    Args:
        detector: torchvision's module.
        name: Name of the function that made it.
    """

    def __init__(self, detector: nn.Module, name: str) -> None:
        super().__init__()
        self._name = name
        original: Any = detector
        rpn, roi = original.rpn, original.roi_heads
        self.backbone: Any = original.backbone
        self.rpn: Any = _Parts(head=rpn.head)
        self.roi_heads: Any = _Parts(box_head=roi.box_head, box_predictor=roi.box_predictor)
        self._anchor_generator: Any = rpn.anchor_generator
        self._clip = float(rpn.box_coder.bbox_xform_clip)
        self.settings = proposal_settings(original)
        pool = roi.box_roi_pool
        self._names, self._side, self._ratio = (
            list(pool.featmap_names),
            int(pool.output_size[0]),
            int(pool.sampling_ratio),
        )
        self._canonical = float(pool.canonical_scale), int(pool.canonical_level)

    def forward(self, images: Tensor) -> Tensor:
        check_sides(self._name, images)
        maps = self.backbone(images)
        logits, boxes = self._first_stage(list(maps.values()))
        anchors = self._anchors(images, list(maps.values()))
        proposals = self._proposals(logits.detach(), boxes.detach(), anchors, images.shape[-1])
        pooled = self._pooled([maps[name] for name in self._names if name in maps], proposals, images.shape[-1])
        scores, classes = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        second = [values.reshape(-1, self.settings.detections * values.shape[1]) for values in (scores, classes)]
        numbers = [proposals.flatten(1), *second, logits.flatten(1), boxes.flatten(1)]
        return torch.cat(numbers, 1).unsqueeze(1)

    def _first_stage(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The logits (n, anchors, 1) and boxes (n, anchors, 4) of all levels' anchors."""
        columns: list[list[Tensor]] = []
        for values, width in zip(self.rpn.head(maps), (1, _BOX), strict=True):
            rows = [level.unflatten(1, (-1, width)).permute(0, 3, 4, 1, 2).flatten(1, 3) for level in values]
            columns.append(rows)
        return torch.cat(columns[0], 1), torch.cat(columns[1], 1)

    def _anchors(self, images: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """The anchors of each level, (anchors, 4), corners in pixels."""
        sizes = [level.shape[-2:] for level in maps]
        strides = [[torch.tensor(images.shape[i + 2] // size[i]) for i in range(2)] for size in sizes]
        self._anchor_generator.set_cell_anchors(images.dtype, images.device)
        levels: list[Tensor] = self._anchor_generator.grid_anchors(sizes, strides)
        return levels

    def _proposals(self, logits: Tensor, boxes: Tensor, anchors: list[Tensor], side: int) -> Tensor:
        """The likeliest boxes (n, proposals, 5) with their scores, after suppression in each level."""
        corners = decoded_boxes(boxes, torch.cat(anchors), (1.0, 1.0, 1.0, 1.0), self._clip).clamp(0.0, float(side))
        is_box = (corners[..., 2:] - corners[..., :2]).amin(-1, keepdim=True) >= _MIN_SIDE
        level = torch.cat([torch.full((len(rows),), i) for i, rows in enumerate(anchors)])
        of_level = functional.one_hot(level, len(anchors)).to(logits.dtype)
        n_candidates = sum(min(self.settings.candidates, len(rows)) for rows in anchors)
        with recording():
            settings = replace(self.settings, candidates=n_candidates)
            rows = detections(corners, torch.sigmoid(logits) * is_box * of_level, settings)
        return rows[..., : _BOX + 1]

    def _pooled(self, maps: list[Tensor], proposals: Tensor, side: int) -> Tensor:
        """The features of each proposal (n * proposals, channels, height, width), averaged over samples in each cell."""
        lowest, highest = (round(math.log2(side / level.shape[-1])) for level in (maps[0], maps[-1]))
        maps = maps[: highest - lowest + 1]
        width = maps[0].shape[-1] + 1
        atlas = torch.cat([functional.pad(level, (0, width - level.shape[-1])) for level in maps], 2)
        atlas = functional.pad(atlas, (0, 0, 0, 1))  # its last row and column are zeros
        height = atlas.shape[2]
        first_rows = [sum(level.shape[2] for level in maps[:i]) for i in range(len(maps))]
        table = torch.tensor(
            [[0.5 ** (lowest + i), level.shape[-1] - 1.0, first_rows[i]] for i, level in enumerate(maps)]
        )
        corners = proposals[..., :_BOX]
        sizes = corners[..., 2:] - corners[..., :2]
        scale, level = self._canonical
        side_length = sizes.prod(-1, keepdim=True).sqrt()
        # A level begins at this side; torchvision adds 1e-6 to its number before rounding down.
        bounds = torch.tensor([scale * 2.0 ** (lowest + i - level - 1e-6) for i in range(1, len(maps))])
        index = (side_length >= bounds).to(corners.dtype).sum(-1, keepdim=True)
        of_level = (index == torch.arange(len(maps), dtype=corners.dtype)).to(corners.dtype)
        zoom, last, first_row = (of_level @ table).unsqueeze(-1).unbind(2)
        start, extent = corners[..., :2] * zoom, (sizes * zoom).clamp(min=1.0)
        n_samples = self._side * self._ratio
        offsets = (torch.arange(n_samples, dtype=corners.dtype) + 0.5) / n_samples
        columns, rows = start[..., :1] + offsets * extent[..., :1], start[..., 1:] + offsets * extent[..., 1:]
        # Boxes of less than a pixel of their level are widened to one, which may end outside of the image: zeros there.
        columns = torch.where(columns > last + 1.0, width - 1.0, torch.minimum(columns, last))
        rows = torch.where(rows > last + 1.0, height - 1.0, torch.minimum(rows, last) + first_row)
        across = (columns * (2.0 / (width - 1)) - 1.0).unsqueeze(2).expand(-1, -1, n_samples, -1)
        down = (rows * (2.0 / (height - 1)) - 1.0).unsqueeze(3).expand(-1, -1, -1, n_samples)
        grid = torch.stack([across, down], -1).flatten(1, 2)
        sampled = functional.grid_sample(atlas, grid, padding_mode="border", align_corners=True)
        cells = functional.avg_pool2d(sampled, self._ratio)
        by_proposal: Tensor = cells.unflatten(2, (self.settings.detections, self._side)).transpose(1, 2)
        return by_proposal.flatten(0, 1)


def check_sides(name: str, images: Tensor) -> None:
    """Raises `CaptureError` for images (n, c, h, w) that a detector with a feature pyramid does not divide evenly."""
    if any(side % _STRIDE for side in images.shape[-2:]):
        size = " x ".join(map(str, images.shape[-2:]))
        raise CaptureError(
            f"images of {size} for {name}, whose feature pyramid needs sides of a multiple of {_STRIDE} pixels; change "
            "data.image_size",
            code="capture.example",
        )


class _Parts(nn.Module):
    """Modules under the names that torchvision's detectors give them."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class Layout:
    """The order of the numbers in the raw outputs of a `TwoStageDetector`.

    Args:
        proposals: Number of proposals.
        classes: Number of classes with the background.
    """

    def __init__(self, proposals: int, classes: int) -> None:
        self.proposals, self.classes = proposals, classes

    def split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The parts of raw outputs (n, 1, numbers): proposals (n, proposals, 5); logits (n, proposals, classes) and boxes
        (n, proposals, classes, 4) of classes; logits (n, anchors) and boxes (n, anchors, 4) of anchors."""
        n, k, numbers = self.proposals, self.classes, outputs[:, 0]
        ends = [0, 5 * n, (5 + k) * n, (5 + 5 * k) * n]
        n_anchors = (numbers.shape[1] - ends[-1]) // (1 + _BOX)
        ends += [ends[-1] + n_anchors, numbers.shape[1]]
        parts = [numbers[:, first:last] for first, last in pairwise(ends)]
        shapes = ((n, 5), (n, k), (n, k, _BOX), (n_anchors,), (n_anchors, _BOX))
        proposals, logits, boxes, anchor_logits, anchor_boxes = (
            part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)
        )
        return proposals, logits, boxes, anchor_logits, anchor_boxes


def proposal_settings(detector: Any) -> Suppression:
    """The thresholds and numbers by which torchvision's detector proposes boxes in evaluation; candidates are a level's."""
    rpn = detector.rpn
    before, after = (int(numbers["testing"]) for numbers in (rpn._pre_nms_top_n, rpn._post_nms_top_n))
    return Suppression(float(rpn.score_thresh), float(rpn.nms_thresh), before, after, pairs=0)


def decoded_boxes(boxes: Tensor, anchors: Tensor, weights: tuple[float, ...], clip: float) -> Tensor:
    """The corners of boxes that are relative to anchors, as torchvision's `BoxCoder` decodes them.

    Args:
        boxes: (..., 4): shifts of the centre, and logarithms of the ratios of sides.
        anchors: (..., 4), corners.
        weights: Factors of shifts and logarithms, x and y each.
        clip: Maximum logarithm.
    """
    sizes = anchors[..., 2:] - anchors[..., :2]
    centres = anchors[..., :2] + 0.5 * sizes
    middle = boxes[..., :2] / weights[0] * sizes + centres
    half = 0.5 * torch.exp((boxes[..., 2:] / weights[2]).clamp(max=clip)) * sizes
    return torch.cat([middle - half, middle + half], -1)
