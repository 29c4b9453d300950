"""COCO's average precision of detections: matching, interpolation, and its influence function over images.

The definitions are those of Lin et al. 2014 (Microsoft COCO, arXiv 1405.0312) as `pycocotools` computes them, and the values
are equal to its to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supernets.tasks.base import Metric, Score
from supernets.tasks.detection.boxes import AREA, BOX, CLASS, CROWD, DETECTED_CLASS, SCALE, SCORE

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The intersections over union from which on a detection matches a labelled box."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""The recalls at which the curve of precision is read."""
MAX_DETECTIONS = 100
"""Detections of a class in an image that count, those of the highest scores."""
AREA_RANGES: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Smallest and largest area of the boxes of each size, both included, in pixels of the original image."""


class _Kind(NamedTuple):
    """The size of boxes of a metric, and the number of thresholds that it is the mean over, beginning with 0.5."""

    size: str = "all"
    n_thresholds: int = len(THRESHOLDS)


_KINDS: Mapping[str, _Kind] = {
    "map": _Kind(),
    "map_50": _Kind(n_thresholds=1),
    "map_small": _Kind("small"),
    "map_medium": _Kind("medium"),
    "map_large": _Kind("large"),
}
METRICS = tuple(Metric(name, "share") for name in _KINDS)
"""COCO's average precision (the mean over classes and ten thresholds), that at the threshold 0.5, and those of three sizes."""

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Bools = NDArray[np.bool_]


class _Ranked(NamedTuple):
    """Precisions at each rank and threshold, (k, thresholds) each.

    Attributes:
        hits: Detections up to the rank that match a labelled box.
        counted: Detections up to the rank that match one or none.
        envelope: The largest precision at the rank or a later one.
        peaks: The last rank that has that precision.
    """

    hits: _Floats
    counted: _Floats
    envelope: _Floats
    peaks: _Ints


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The detections of one class in all images by descending score, and what each is at each threshold.

    Attributes:
        image: (k,), positions of the images.
        hit: (k, thresholds), True where a detection matches a labelled box that counts.
        miss: (k, thresholds), True where it matches none. Where neither is True, it is left out: it matches a crowd or a box of
            another size, or is itself of another size and matches nothing.
        n_labelled: (images,), labelled boxes that count.
    """

    image: _Ints
    hit: _Bools
    miss: _Bools
    n_labelled: _Ints

    @property
    def n_boxes(self) -> int:
        """Labelled boxes that count, in all images."""
        return int(self.n_labelled.sum())

    def curve(self) -> _Floats:
        """The precision at each of `RECALLS`, (recalls, thresholds): the largest one at that recall or a higher one, 0 where
        it is never reached; NaN without labelled boxes."""
        n_thresholds = self.hit.shape[1]
        if self.n_boxes == 0:
            return np.full((len(RECALLS), n_thresholds), np.nan)
        curves = self._ranked()
        curve = np.zeros((len(RECALLS), n_thresholds))
        for t in range(n_thresholds):
            first = np.searchsorted(curves.hits[:, t] / self.n_boxes, RECALLS)
            is_reached = first < len(curves.hits)
            curve[is_reached, t] = curves.envelope[first[is_reached], t]
        return curve

    def influence(self) -> _Floats:
        """The influence function of the mean over thresholds of the area under the curve of precision and recall, (images,).

        It is n times the derivative by the weight of an image, of mean 0. The area is that of the whole curve: between the 101
        recalls, which stand for it, the value does not change at all with a small weight. It is linear in the number of
        detections: what a detection adds to the precision at all later ranks is a sum from the end.
        """
        n = len(self.n_labelled)
        hits, counted, envelope, peaks = self._ranked()
        areas = np.where(self.hit, envelope, 0.0) / self.n_boxes  # of each hit: a step of recall times its precision
        # The precision at a rank changes by (hit - precision) / counted for each detection up to that rank.
        readers = np.zeros_like(hits)
        for t in range(readers.shape[1]):
            readers[:, t] = np.bincount(peaks[self.hit[:, t], t], minlength=len(readers))
        precision = hits / np.maximum(counted, 1)
        share = readers / np.maximum(counted, 1) / self.n_boxes
        gain, loss = (np.cumsum(terms[::-1], axis=0)[::-1] for terms in (share * (1 - precision), share * precision))
        change = (areas + np.where(self.hit, gain, 0.0) - np.where(self.miss, loss, 0.0)).mean(axis=1)
        by_image = np.bincount(self.image, weights=change, minlength=n)
        influence: _Floats = n * (by_image - areas.sum(axis=0).mean() * self.n_labelled / self.n_boxes)
        return influence

    def _ranked(self) -> _Ranked:
        """The precisions at each rank."""
        hits = np.cumsum(self.hit, axis=0, dtype=np.float64)
        counted = hits + np.cumsum(self.miss, axis=0)
        precision = hits / (counted + np.spacing(1))  # as pycocotools, which so divides nothing by nothing
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        # The rank where a maximum from the end was last raised; of ranks of equal precision it is the last.
        ranks = np.arange(len(precision)).reshape(-1, 1)
        is_peak = np.ones_like(self.hit)
        is_peak[:-1] = precision[:-1] > envelope[1:]
        peaks = np.minimum.accumulate(np.where(is_peak, ranks, len(ranks))[::-1], axis=0)[::-1]
        return _Ranked(hits, counted, envelope, peaks)


def matched(
    detections: NDArray[np.float32],
    labels: NDArray[np.float32],
    *,
    size: str = "all",
    n_thresholds: int = len(THRESHOLDS),
    n_classes: int | None = None,
) -> list[ClassMatches]:
    """The detections of each class, matched with labelled boxes of the class in their images.

    In the order of scores, a detection takes the box that it overlaps most of those that are not taken, at least by the
    threshold; boxes that do not count (crowds and other sizes) only where there is no other. A crowd is taken any number of
    times, and the overlap with it is the share of the detection that it covers.

    Args:
        detections: (n, detections, 6), see `supernets.tasks.detection.boxes`; rows of score 0 are left out.
        labels: (n, boxes, 8), see there.
        size: Key of `AREA_RANGES`.
        n_thresholds: Number of `THRESHOLDS`, from the first one on.
        n_classes: Number of classes; None for the largest one in the labels and detections, plus 1.
    """
    smallest, largest = AREA_RANGES[size]
    image, row = np.nonzero(detections[..., SCORE] > 0)
    predictions = detections[image, row].astype(np.float64)
    label_image, label_row = np.nonzero(labels[..., CLASS] >= 0)
    boxes = labels[label_image, label_row].astype(np.float64)
    classes, box_classes = predictions[:, DETECTED_CLASS].astype(np.int64), boxes[:, CLASS].astype(np.int64)
    if n_classes is None:
        n_classes = int(max(classes.max(initial=-1), box_classes.max(initial=-1))) + 1
    # By class, image and descending score; of equal scores in their order.
    order = np.lexsort((-predictions[:, SCORE], image, classes))
    image, predictions, classes = image[order], predictions[order], classes[order]
    groups = classes * len(labels) + image
    first = np.searchsorted(groups, groups)
    is_counted = np.arange(len(groups)) - first < MAX_DETECTIONS
    image, predictions = image[is_counted], predictions[is_counted]
    classes, groups = classes[is_counted], groups[is_counted]

    ignored = (boxes[:, CROWD] > 0) | (boxes[:, AREA] < smallest) | (boxes[:, AREA] > largest)
    box_order = np.lexsort((label_row, label_image, box_classes))
    matching = _Matching(
        boxes[box_order], ignored[box_order], (box_classes * len(labels) + label_image)[box_order], n_thresholds
    )
    hit, is_left_out = matching.run(predictions, groups)
    edges = predictions[:, 2:4] - predictions[:, :2]
    areas = edges[:, 0] * edges[:, 1] * labels[image, 0, SCALE].astype(np.float64) ** 2
    is_other_size = (areas < smallest) | (areas > largest)
    miss = ~hit & ~is_left_out & ~is_other_size[:, None]
    counts = np.zeros((n_classes, len(labels)), dtype=np.int64)
    np.add.at(counts, (box_classes[~ignored], label_image[~ignored]), 1)
    ranked = np.lexsort((-predictions[:, SCORE], classes))
    bounds = np.searchsorted(classes, np.arange(n_classes + 1))
    by_class = (ranked[start:end] for start, end in pairwise(bounds.tolist()))
    return [ClassMatches(image[i], hit[i], miss[i], n) for i, n in zip(by_class, counts, strict=True)]


@dataclass(frozen=True, eq=False)
class _Matching:
    """Labelled boxes in the order of their groups, of one class in one image each, which detections of the group take.

    Attributes:
        ignored: Mask of the boxes that do not count.
        groups: Ascending numbers of the boxes' groups.
    """

    boxes: _Floats
    ignored: _Bools
    groups: _Ints
    n_thresholds: int

    def run(self, predictions: _Floats, groups: _Ints) -> tuple[_Bools, _Bools]:
        """Masks of the detections that take a box that counts, and one that does not, both (k, thresholds).

        All groups take their next detection at once; only detections that reach the lowest threshold with any box have a turn.

        Args:
            predictions: (k, 6), detections by group and descending score.
            groups: (k,), ascending numbers of their groups.
        """
        hit = np.zeros((len(predictions), self.n_thresholds), dtype=np.bool_)
        is_left_out = hit.copy()
        start, end = (np.searchsorted(self.groups, groups, side) for side in ("left", "right"))
        n_boxes = end - start
        # Pairs of a detection and a box of its group.
        pair = np.repeat(np.arange(len(predictions)), n_boxes)
        slot = np.arange(len(pair)) - np.repeat(np.cumsum(n_boxes) - n_boxes, n_boxes)
        overlaps_of_pairs = _overlaps(predictions[pair], self.boxes[start[pair] + slot])
        is_near = overlaps_of_pairs >= THRESHOLDS[0]
        if not is_near.any():
            return hit, is_left_out
        detection, row = np.unique(pair[is_near], return_inverse=True)
        slots = np.arange(int(n_boxes[detection].max()))
        overlaps = np.full((len(detection), len(slots)), -1.0)
        overlaps[row, slot[is_near]] = overlaps_of_pairs[is_near]
        box = np.minimum(start[detection, None] + slots, len(self.boxes) - 1)

        _, group, n_turns = np.unique(groups[detection], return_inverse=True, return_counts=True)
        turn = np.arange(len(detection)) - np.searchsorted(group, group)
        # Groups of many turns first, so that those with another turn are a prefix.
        place = np.empty(len(n_turns), dtype=np.int64)
        place[np.argsort(-n_turns, kind="stable")] = np.arange(len(n_turns))
        group = place[group]
        is_matched = np.zeros((len(n_turns), self.n_thresholds, len(slots)), dtype=np.bool_)
        # The rank of each overlap, of which equal ones are ranked by position, and boxes that count come before all others.
        ranks = np.argsort(np.argsort(overlaps, axis=1, kind="stable"), axis=1) + 1
        ranks += len(slots) * ~self.ignored[box]
        is_crowd = self.boxes[box, CROWD] > 0
        for i in range(int(n_turns.max())):
            turns = np.flatnonzero(turn == i)
            turns = turns[np.argsort(group[turns])]
            used = is_matched[: len(turns)]
            is_free = (overlaps[turns, None] >= THRESHOLDS[: self.n_thresholds, None]) & (~used | is_crowd[turns, None])
            choices = np.where(is_free, ranks[turns, None], 0)
            chosen = choices.argmax(axis=2)
            rank = np.take_along_axis(choices, chosen[..., None], axis=2)[..., 0]
            hit[detection[turns]] = rank > len(slots)
            is_left_out[detection[turns]] = (rank > 0) & (rank <= len(slots))
            used |= (slots == chosen[..., None]) & (rank > 0)[..., None]
        return hit, is_left_out


def _overlaps(predictions: _Floats, boxes: _Floats) -> _Floats:
    """The intersection over union of each detection (k, 6) with its box (k, 8), over the detection's area for a crowd, (k,)."""
    detected, labelled = predictions[:, :4], boxes[:, BOX]
    edges = np.minimum(detected[..., 2:], labelled[..., 2:]) - np.maximum(detected[..., :2], labelled[..., :2])
    shared = np.where((edges > 0).all(axis=-1), edges.prod(axis=-1), 0.0)
    areas, box_areas = ((sides[..., 2:] - sides[..., :2]).prod(axis=-1) for sides in (detected, labelled))
    union = areas + np.where(boxes[..., CROWD] > 0, 0.0, box_areas - shared)
    overlaps: _Floats = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return overlaps


def n_counted_boxes(metric: str, labels: NDArray[Any]) -> int:
    """The number of labelled boxes (n, boxes, 8) that count for a metric: those of its size that are no crowds."""
    smallest, largest = AREA_RANGES[_KINDS[metric].size]
    areas, is_single = labels[..., AREA], (labels[..., CLASS] >= 0) & (labels[..., CROWD] == 0)
    return int((is_single & (areas >= smallest) & (areas <= largest)).sum())


def area_range_of(metric: str) -> str:
    """The areas of the boxes that count for a metric, for messages: ``at most 1024``, or "" for all."""
    size = _KINDS[metric].size
    smallest, largest = AREA_RANGES[size]
    bounds = {
        "small": f"at most {largest:g}",
        "medium": f"{smallest:g} to {largest:g}",
        "large": f"at least {smallest:g}",
    }
    return bounds.get(size, "")


def scored(metric: str, detections: NDArray[Any], labels: NDArray[Any]) -> Score:
    """The value of one of `METRICS` for detections (n, detections, 6), with its influence function over images.

    Classes without labelled boxes of the metric's size are left out of the mean. The value is NaN without any such box.

    Args:
        metric: Name of the metric.
        detections: See `matched`.
        labels: See `matched`.
    """
    kind = _KINDS[metric]
    matches = matched(detections, labels, size=kind.size, n_thresholds=kind.n_thresholds)
    classes = [c for c in matches if c.n_boxes > 0]
    if not classes:
        return Score(float("nan"), float("nan"), np.full(len(labels), np.nan))
    value = float(np.mean([c.curve() for c in classes]))
    return Score.of_share(value, value + np.mean([c.influence() for c in classes], axis=0))


def precision_recall(detections: NDArray[Any], labels: NDArray[Any], n_classes: int, *, threshold: int = 0) -> _Floats:
    """The precision at each of `RECALLS` by class, (classes, recalls); NaN for classes without labelled boxes.

    Args:
        detections: See `matched`.
        labels: See `matched`.
        n_classes: Number of classes.
        threshold: Position in `THRESHOLDS` of the overlap from which on boxes match; the first one is 0.5.
    """
    classes = matched(detections, labels, n_thresholds=threshold + 1, n_classes=n_classes)
    return np.stack([c.curve()[:, threshold] for c in classes])


def average_precisions(detections: NDArray[Any], labels: NDArray[Any], n_classes: int) -> Mapping[str, _Floats]:
    """The average precision of each class by the size of boxes, (classes,) for each key of `AREA_RANGES`; NaN for classes
    without labelled boxes of the size.

    Args:
        detections: See `matched`.
        labels: See `matched`.
        n_classes: Number of classes.
    """
    by_size = {size: matched(detections, labels, size=size, n_classes=n_classes) for size in AREA_RANGES}
    return {size: np.array([c.curve().mean() for c in classes]) for size, classes in by_size.items()}
